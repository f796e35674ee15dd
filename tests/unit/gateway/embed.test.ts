/** Embeddings: each text with a reservation of its own, those that start together in one call; all or nothing. */
import { describe, expect, test } from "vitest";
import type { EmbedItem, EmbedRequest } from "../../../shared/contract/embedding.ts";
import { itemId, MAX_REQUEST_ID_CHARS } from "../../../shared/gateway/admission/request_identity.ts";
import { type Diagnosis, ProviderFailure } from "../../../shared/providers/provider.ts";
import {
  ANSWER,
  grant,
  grantTo,
  refusal,
  REQUEST,
  scriptedGateway,
  type ScriptedGatewayOptions,
  settled,
} from "./gateway_fixture.ts";
import type { TokenUsage } from "../../../shared/contract/usage.ts";

const { prompt: _, ...ASKED } = REQUEST;
const textOf = (item: EmbedItem) => String(item.content.parts?.[0]?.text);
const request = (texts: string[], more: Partial<EmbedRequest> = {}): EmbedRequest => ({
  ...ASKED,
  models: ["gemini-embedding-001"],
  items: texts.map((text) => ({ content: { parts: [{ text }] } })),
  ...more,
});
const letters = (count: number) => Array.from({ length: count }, (_, n) => `text ${n}`);
const granted = (count: number) => Array.from({ length: count }, (_, n) => grant({ requestNo: n + 1 }));

function embed(
  texts: string[],
  options: Partial<ScriptedGatewayOptions> = {},
  more: Partial<EmbedRequest> = {},
) {
  const set = scriptedGateway({ reservations: granted(texts.length), ...options });
  return { set, result: set.gateway.embed(request(texts, more), set.context()) };
}

test("vectors come in the order of the texts, whichever is ready first", async () => {
  const { set, result } = embed(letters(9), {
    embed: async ({ item }) => {
      const number = Number(textOf(item).slice(5));
      if (number % 2 === 0) await settled();
      return { embedding: { values: [number] }, usage: null };
    },
  });
  const { embeddings, usage } = await result;
  expect(embeddings.map(({ values }) => values[0])).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  expect(usage).toEqual({ inputTokens: 90, estimated: true });
  expect(set.settlements.map(({ outcome, final }) => [outcome, final])).toEqual(
    Array(9).fill(["succeeded", true]),
  );
});

test("each text has a reservation and a number of its own; a single one keeps the request's id", async () => {
  const several = embed(letters(3));
  await several.result;
  expect(several.set.reserved.map(({ requestId }) => requestId)).toEqual(["r1.1", "r1.2", "r1.3"]);
  const one = embed(letters(1));
  await one.result;
  expect(one.set.reserved.map(({ requestId }) => requestId)).toEqual(["r1"]);
});

describe("an id as long as ids may be", () => {
  const id = "x".repeat(MAX_REQUEST_ID_CHARS);

  test("is no longer with a number behind it, the same for a repetition, and another for another id", async () => {
    const other = `${"x".repeat(MAX_REQUEST_ID_CHARS - 1)}y`;
    const ids = await Promise.all([itemId(id, 1), itemId(id, 100), itemId(other, 1)]);
    expect(ids.map(({ length }) => length)).toEqual([200, 200, 200]);
    expect(new Set(ids).size).toBe(3);
    expect(await itemId(id, 1)).toBe(ids[0]);
    expect(await itemId(id.slice(2), 1)).toBe(`${id.slice(2)}.1`);
  });

  test("serves for several texts", async () => {
    const { set, result } = embed(letters(2), {}, { id });
    expect(await result).toMatchObject({ requestId: id });
    for (const { requestId } of set.reserved) expect(requestId.length).toBeLessThanOrEqual(200);
  });
});

test("the first that fails ends the others, and each is settled", async () => {
  const bad: Diagnosis = {
    fault: "caller",
    retryable: false,
    block: null,
    code: "upstream_invalid_request",
  };
  const signals: AbortSignal[] = [];
  const { set, result } = embed(letters(20), {
    embed: ({ item, signal }) => {
      signals.push(signal);
      if (textOf(item) === "text 2") return Promise.reject(new ProviderFailure(bad, "no", 400));
      return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    },
  });
  await expect(result).rejects.toMatchObject({ code: "upstream_invalid_request" });
  expect(signals).toHaveLength(20);
  expect(set.settlements.map(({ outcome }) => outcome).sort()).toEqual([
    ...Array(19).fill("cancelled"),
    "failed",
  ]);
});

describe("texts that start together", () => {
  const many =
    (calls: EmbedItem[][], usage: TokenUsage | null = null): ScriptedGatewayOptions["embedMany"] =>
    ({ items }) => {
      calls.push(items);
      return Promise.resolve({
        embeddings: items.map((item) => ({ values: [Number(textOf(item).slice(5))] })),
        usage,
      });
    };

  test("go upstream in one call, a hundred at most, each with its own reservation", async () => {
    const calls: EmbedItem[][] = [];
    const { set, result } = embed(letters(230), { embedMany: many(calls) });
    const { embeddings } = await result;
    expect(calls.map(({ length }) => length)).toEqual([100, 100, 30]);
    expect(embeddings.map(({ values }) => values[0])).toEqual([...Array(230).keys()]);
    expect(set.reserved).toHaveLength(230);
    expect(set.settlements).toHaveLength(230);
  });

  test("share what upstream says that all have used, as they were booked", async () => {
    const usage = { ...ANSWER.usage!, inputTokens: 60, totalTokens: 60 };
    const reservations = [grant({ tokens: 10 }), grant({ requestNo: 13, tokens: 20 })];
    const { set, result } = embed(letters(2), { reservations, embedMany: many([], usage) });
    expect((await result).usage).toEqual({ inputTokens: 60, estimated: false });
    expect(set.settlements.map(({ inputTokens }) => inputTokens)).toEqual([20, 40]);
  });

  test("wait for each other for a moment, not for those whose start is later", async () => {
    const calls: EmbedItem[][] = [];
    const reservations = [grant(), grant({ requestNo: 13 }), grant({ requestNo: 14, waitMs: 2_000 })];
    const { set, result } = embed(letters(3), {
      reservations,
      embedMany: many(calls),
      embed: ({ item }) => {
        calls.push([item]);
        return Promise.resolve({ embedding: { values: [2] }, usage: null });
      },
    });
    await settled();
    expect(calls).toEqual([]);
    await set.clock.advance(100);
    expect(calls.map(({ length }) => length)).toEqual([2]);
    await set.clock.advance(3_000);
    await result;
    expect(calls.map(({ length }) => length)).toEqual([2, 1]);
  });

  test("with other keys go in calls of their own", async () => {
    const calls: EmbedItem[][] = [];
    const reservations = [grant(), grantTo("b", 1), grant(), grantTo("b", 1)];
    const { set, result } = embed(letters(4), { reservations, embedMany: many(calls) });
    await settled();
    await set.clock.advance(100);
    await result;
    expect(calls.map((items) => items.map(textOf))).toEqual([["text 0", "text 2"], ["text 1", "text 3"]]);
  });

  test("that find no place yet are booked when the others have begun, and refused where none finds one", async () => {
    const calls: EmbedItem[][] = [];
    const full = refusal({ code: "too_many_waiting", limit: null });
    const reservations = [grant(), full, full, grant(), full, grant()];
    const { set, result } = embed(letters(3), { reservations, embedMany: many(calls) });
    for (let i = 0; i < 3; i++) {
      await settled();
      await set.clock.advance(100);
    }
    expect((await result).embeddings).toHaveLength(3);
    expect(set.reserved.map(({ requestId }) => requestId)).toEqual([
      "r1.1",
      "r1.2",
      "r1.3",
      "r1.2",
      "r1.3",
      "r1.3",
    ]);
    const none = embed(letters(2), { reservations: [full, full] });
    await expect(none.result).rejects.toMatchObject({ code: "too_many_waiting" });
  });
});

test.each([[0], [2_049]])("%i texts are refused before anything is reserved", async (count) => {
  const { set, result } = embed(letters(count));
  await expect(result).rejects.toMatchObject({ code: "invalid_request" });
  expect(set.reserved).toEqual([]);
});
