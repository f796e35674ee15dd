/** Embeddings: each text a call of its own, all or nothing. */
import { describe, expect, test } from "vitest";
import type { EmbedItem, EmbedRequest } from "../../../shared/contract/embedding.ts";
import { itemId, MAX_REQUEST_ID_CHARS } from "../../../shared/gateway/admission/request_identity.ts";
import { type Diagnosis, ProviderFailure } from "../../../shared/providers/provider.ts";
import { grant, REQUEST, scriptedGateway, type ScriptedGatewayOptions, settled } from "./gateway_fixture.ts";

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
  expect(signals).toHaveLength(4);
  expect(set.settlements.map(({ outcome }) => outcome).sort()).toEqual([
    "cancelled",
    "cancelled",
    "cancelled",
    "failed",
  ]);
});

test("no more than a few are under way at once", async () => {
  let now = 0;
  let most = 0;
  const { result } = embed(letters(30), {
    embed: async () => {
      most = Math.max(most, ++now);
      await settled();
      now--;
      return { embedding: { values: [1] }, usage: null };
    },
  });
  await result;
  expect(most).toBe(4);
});

test.each([[0], [101]])("%i texts are refused before anything is reserved", async (count) => {
  const { set, result } = embed(letters(count));
  await expect(result).rejects.toMatchObject({ code: "invalid_request" });
  expect(set.reserved).toEqual([]);
});
