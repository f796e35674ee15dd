/** A prompt that is counted upstream before it is booked. */
import { describe, expect, test } from "vitest";
import { COUNT_TIMEOUT_MS } from "../../../shared/gateway/admission/admit_counted.ts";
import { type Diagnosis, ProviderFailure } from "../../../shared/providers/provider.ts";
import type { CountWanted } from "../../../shared/database/admission/reserve.ts";
import { ANSWER, grant, grantTo, refusal, REQUEST, scriptedGateway, settled } from "./gateway_fixture.ts";

const COUNT: CountWanted = {
  status: "count",
  model: "gemma-4-31b-it",
  key: { alias: "demo-a", source: { kind: "environment", name: "KEY_A" }, provider: "google" },
  tokensIfNotCounted: 15,
};
const OVERLOADED: Diagnosis = {
  fault: "nobody",
  retryable: true,
  block: null,
  code: "upstream_unavailable",
};
const SCHEMA = { type: "object", required: ["title"], properties: { title: { type: "string" } } };

describe("where the ledger wants a count", () => {
  test("upstream counts with that lane's key, and the count is booked", async () => {
    const asked: unknown[] = [];
    const set = scriptedGateway({
      reservations: [COUNT, grant()],
      countTokens: ({ model, secret, prompt }) => {
        asked.push([model, secret, prompt]);
        return Promise.resolve(321);
      },
    });
    await set.invoke();
    expect(asked).toEqual([["gemma-4-31b-it", "secret-a", REQUEST.prompt]]);
    expect(set.reserved.map(({ tokens, counted }) => [tokens, counted])).toEqual([
      [expect.any(Number), false],
      [321, true],
    ]);
    expect(set.reserved[1]).toMatchObject({ requestId: "r1", attempt: 1 });
    expect(set.logged).toContainEqual(["tokens_counted", expect.objectContaining({ counted: 321 })]);
    expect(set.settlements).toHaveLength(1);
  });

  test("the second reservation waits for less, by what the count took", async () => {
    const set = scriptedGateway({
      reservations: [COUNT, grant()],
      countTokens: async () => {
        await set.clock.sleep(700);
        return 321;
      },
    });
    const answer = set.invoke({ maxWaitMs: 139_000 });
    await set.clock.advance(700);
    await answer;
    expect(set.reserved[0]!.maxWaitMs - set.reserved[1]!.maxWaitMs).toBe(700);
  });

  test.each<[string, Parameters<typeof scriptedGateway>[0]]>([
    ["fails", {
      reservations: [],
      countTokens: () => Promise.reject(new ProviderFailure(OVERLOADED, "busy", 503)),
    }],
    ["cannot count", { reservations: [] }],
    ["has no secret", { reservations: [], secrets: {}, countTokens: () => Promise.resolve(1) }],
  ])("an upstream that %s: the most that the estimate may be is booked", async (_, options) => {
    const set = scriptedGateway({ ...options, reservations: [COUNT, refusal()] });
    await expect(set.invoke()).rejects.toMatchObject({ code: "rate_limited" });
    expect(set.reserved.map(({ tokens, counted }) => [tokens, counted])).toEqual([
      [expect.any(Number), false],
      [15, null],
    ]);
  });

  test("a count that takes too long is not waited for", async () => {
    const signals: AbortSignal[] = [];
    const set = scriptedGateway({
      reservations: [COUNT, grant()],
      countTokens: ({ signal }) => {
        signals.push(signal);
        return new Promise(() => {});
      },
    });
    const answer = set.invoke();
    await set.clock.advance(COUNT_TIMEOUT_MS);
    await answer;
    expect(set.reserved[1]).toMatchObject({ tokens: 15, counted: null });
    expect(signals[0]?.aborted).toBe(true);
    expect(set.logged).toContainEqual(["count_failed", expect.objectContaining({ detail: "timed_out" })]);
  });

  test("a client who leaves while upstream counts books nothing", async () => {
    const set = scriptedGateway({ reservations: [COUNT], countTokens: () => new Promise(() => {}) });
    const answer = set.invoke();
    answer.catch(() => {});
    await settled();
    set.client.abort();
    await expect(answer).rejects.toMatchObject({ code: "client_closed" });
    expect(set.reserved).toHaveLength(1);
    expect(set.settlements).toEqual([]);
  });

  test("a refusal of the counted prompt has the count", async () => {
    const set = scriptedGateway({
      reservations: [COUNT, refusal({ code: "prompt_too_large", limit: "tpm", retryAfterMs: null })],
      countTokens: () => Promise.resolve(16_321),
    });
    await expect(set.invoke()).rejects.toMatchObject({
      code: "prompt_too_large",
      publicMessage: expect.stringContaining("16321"),
    });
  });

  test("it is counted once for all attempts", async () => {
    let counts = 0;
    const set = scriptedGateway({
      reservations: [COUNT, grant(), grantTo("b", 2)],
      countTokens: () => Promise.resolve(320 + ++counts),
      generate: (_, attempt) =>
        attempt === 1
          ? Promise.reject(new ProviderFailure(OVERLOADED, "busy", 503))
          : Promise.resolve(ANSWER),
    });
    const answer = set.invoke();
    await set.clock.advance(250);
    await answer;
    expect(set.reserved.slice(1).map(({ tokens, counted }) => [tokens, counted])).toEqual([
      [321, true],
      [321, true],
    ]);
  });

  test("a prompt that a repair made longer is another prompt", async () => {
    const set = scriptedGateway({
      reservations: [COUNT, grant(), grantTo("b", 2)],
      countTokens: () => Promise.resolve(321),
    });
    const prompt = { ...REQUEST.prompt, generationConfig: { responseSchema: SCHEMA } };
    await set.invoke({ prompt, schemaRepair: true });
    expect(set.reserved[2]).toMatchObject({ attempt: 2, counted: false });
    expect(set.reserved[2]!.tokens).not.toBe(321);
  });
});

test("a stream is counted too, and embeddings never are", async () => {
  const set = scriptedGateway({
    reservations: [COUNT, grant(), grant()],
    countTokens: () => Promise.resolve(321),
  });
  for await (const _ of set.gateway.stream(REQUEST, set.context()));
  expect(set.reserved[1]).toMatchObject({ tokens: 321, counted: true });
  const items = [{ content: { parts: [{ text: "Что сегодня?" }] } }];
  await set.gateway.embed({ ...REQUEST, models: ["gemini-embedding-001"], items }, set.context());
  expect(set.reserved[2]).toMatchObject({ counted: null });
});
