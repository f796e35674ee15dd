import { describe, expect, test } from "vitest";
import type { GatewayEvent } from "../../../shared/contract/events.ts";
import { textTokens } from "../../../shared/gateway/estimate/estimate.ts";
import {
  type Diagnosis,
  type ProviderChunk,
  type ProviderEnd,
  ProviderFailure,
} from "../../../shared/providers/provider.ts";
import {
  ANSWER,
  chunksOf,
  grant,
  grantTo,
  refusal,
  REQUEST,
  scriptedGateway,
  settled,
} from "./gateway_fixture.ts";

const OVERLOADED: Diagnosis = {
  fault: "nobody",
  retryable: true,
  block: null,
  code: "upstream_unavailable",
};
const overloaded = () => new ProviderFailure(OVERLOADED, "said upstream", 503);

type Set = ReturnType<typeof scriptedGateway>;
const open = (set: Set, more = {}) =>
  set.gateway.stream({ ...REQUEST, ...more }, set.context())[Symbol.asyncIterator]();

/** All events, and what was thrown at the end. */
async function readAll(events: AsyncIterator<GatewayEvent>) {
  const seen: GatewayEvent[] = [];
  try {
    for (let step = await events.next(); !step.done; step = await events.next()) seen.push(step.value);
    return { seen, error: null };
  } catch (error) {
    return { seen, error };
  }
}
const typesOf = (events: GatewayEvent[]) => events.map(({ type }) => type);

/** Chunks that a test gives out by hand; `ended` tells whether the gateway has closed them. */
function byHand() {
  const state = { ended: false, pulled: 0 };
  const waiting: ((chunk: ProviderChunk) => void)[] = [];
  async function* stream(signal: AbortSignal): AsyncGenerator<ProviderChunk, ProviderEnd, void> {
    try {
      for (;;) {
        state.pulled++;
        yield await new Promise<ProviderChunk>((resolve, reject) => {
          waiting.push(resolve);
          signal.addEventListener("abort", () => reject(signal.reason));
        });
      }
    } finally {
      state.ended = true;
    }
  }
  const give = async (text: string) => {
    await settled();
    waiting.shift()?.({
      answer: { candidates: [{ content: { parts: [{ text }] }, index: 0 }] },
      usage: null,
    });
    await settled();
  };
  return { state, stream, give };
}

describe("a stream that goes well", () => {
  test("has its start, each piece and the whole, and is settled with the last chunk's usage", async () => {
    const set = scriptedGateway({ reservations: [grant()] });
    const { seen } = await readAll(open(set));
    expect(typesOf(seen)).toEqual(["started", "delta", "delta", "done"]);
    const done = seen.at(-1);
    expect(done?.type === "done" && done.result).toMatchObject({
      answer: { candidates: [{ content: { parts: [{ text: "Концерт" }] }, finishReason: "STOP" }] },
      verdict: { ok: true },
      usage: ANSWER.usage,
      attempts: 1,
    });
    expect(set.settlements).toEqual([
      expect.objectContaining({ outcome: "succeeded", final: true, inputTokens: 9, usageEstimated: false }),
    ]);
    expect(set.clock.asleep).toBe(0);
  });

  test("without figures usage is estimated, and marked so", async () => {
    const set = scriptedGateway({
      reservations: [grant()],
      async *stream() {
        for await (const { answer } of chunksOf("Кон", "церт")) yield { answer, usage: null };
        return { verdict: { ok: true }, finishReason: "STOP", usage: null };
      },
    });
    await readAll(open(set));
    expect(set.settlements[0]).toMatchObject({ inputTokens: 10, usageEstimated: true });
    const written = textTokens("Кон") + textTokens("церт");
    expect(set.settlements[0]).toMatchObject({ outputTokens: Math.ceil(written) });
  });

  test("a repeated id gets the stored answer in one piece, with its end", async () => {
    const first = scriptedGateway({ reservations: [grant()] });
    await readAll(open(first, { idIsClients: true }));
    const kept = first.settlements[0]?.result;
    const second = scriptedGateway({
      reservations: [{
        status: "duplicate",
        state: "succeeded",
        result: JSON.parse(JSON.stringify(kept)),
        attempts: 1,
        errorCode: null,
        sameRequest: true,
      }],
    });
    const { seen } = await readAll(open(second, { idIsClients: true }));
    expect(typesOf(seen)).toEqual(["delta", "done"]);
    expect(seen[1]?.type === "done" && seen[1].result.replayed).toBe(true);
    expect(second.calls).toHaveLength(0);
  });

  test("an answer too long to store is passed on whole and not stored", async () => {
    const long = Array.from({ length: 30 }, () => "x".repeat(10_000));
    const set = scriptedGateway({ reservations: [grant()], stream: () => chunksOf(...long) });
    const { seen } = await readAll(open(set, { idIsClients: true }));
    expect(seen.filter(({ type }) => type === "delta")).toHaveLength(30);
    const done = seen.at(-1);
    expect(done?.type === "done" && done.result.answer.candidates?.[0]?.content?.parts).toEqual([]);
  });
});

describe("a start that lies ahead", () => {
  test("is sent at once, and stored although nobody reads on", async () => {
    const set = scriptedGateway({ reservations: [grant({ waitMs: 5_000 })] });
    const events = open(set);
    expect((await events.next()).value).toMatchObject({ type: "queued", waitMs: 5_000 });
    await set.clock.advance(4_999);
    expect(set.calls).toHaveLength(0);
    await set.clock.advance(1);
    expect(set.calls).toHaveLength(1);
    expect(typesOf((await readAll(events)).seen)).toEqual(["started", "delta", "delta", "done"]);
  });

  test("a reader who leaves meanwhile gives the slot back", async () => {
    const set = scriptedGateway({ reservations: [grant({ waitMs: 5_000 })] });
    const events = open(set);
    await events.next();
    await events.return?.();
    expect(set.settlements).toEqual([
      expect.objectContaining({ outcome: "cancelled", dispatched: false, final: true }),
    ]);
    expect(set.calls).toHaveLength(0);
    expect(set.clock.asleep).toBe(0);
  });
});

describe("before the first piece a stream is repeated like any other call", () => {
  test("the reader sees the second start, and one answer", async () => {
    const set = scriptedGateway({
      reservations: [grant(), grantTo("b", 2)],
      stream: (_, attempt) => attempt === 1 ? failing([]) : chunksOf("Концерт"),
    });
    const events = readAll(open(set));
    await set.clock.advance(250);
    expect(typesOf((await events).seen)).toEqual(["started", "started", "delta", "done"]);
    expect(set.settlements.map(({ attempt, final }) => [attempt, final])).toEqual([[1, false], [2, true]]);
  });

  test("a refusal is thrown, without any event", async () => {
    const { seen, error } = await readAll(open(scriptedGateway({ reservations: [refusal()] })));
    expect(seen).toEqual([]);
    expect(error).toMatchObject({ code: "rate_limited", status: 429 });
  });
});

async function* failing(texts: string[]): AsyncGenerator<ProviderChunk, ProviderEnd, void> {
  for (const text of texts) {
    yield { answer: { candidates: [{ content: { parts: [{ text }] } }] }, usage: null };
    await Promise.resolve();
  }
  throw overloaded();
}

describe("after the first piece nothing is repeated", () => {
  test("the error reaches the reader, and what was used is settled as an estimate", async () => {
    const set = scriptedGateway({ reservations: [grant()], stream: () => failing(["Концерт в парке"]) });
    const { seen, error } = await readAll(open(set));
    expect(typesOf(seen)).toEqual(["started", "delta"]);
    expect(error).toMatchObject({ code: "upstream_unavailable" });
    expect(set.reserved).toHaveLength(1);
    expect(set.settlements).toEqual([
      expect.objectContaining({
        outcome: "failed",
        final: true,
        dispatched: true,
        inputTokens: 10,
        outputTokens: Math.ceil(textTokens("Концерт в парке")),
        usageEstimated: true,
        errorCode: "upstream_unavailable",
      }),
    ]);
  });

  test("upstream's own figures count as far as they came", async () => {
    const usage = { ...ANSWER.usage!, inputTokens: 7, outputTokens: 40 };
    const set = scriptedGateway({
      reservations: [grant()],
      async *stream() {
        yield { answer: {}, usage };
        await Promise.resolve();
        throw overloaded();
      },
    });
    await readAll(open(set));
    expect(set.settlements[0]).toMatchObject({ inputTokens: 7, outputTokens: 40, usageEstimated: true });
  });

  test("a stream that stalls is given up at the attempt's deadline", async () => {
    const hand = byHand();
    const set = scriptedGateway({ reservations: [grant()], stream: ({ signal }) => hand.stream(signal) });
    const events = readAll(open(set));
    await hand.give("Кон");
    await set.clock.advance(120_000);
    expect((await events).error).toMatchObject({ code: "upstream_timeout", status: 504 });
    expect(hand.state.ended).toBe(true);
    expect(set.settlements).toEqual([expect.objectContaining({ outcome: "failed", usageEstimated: true })]);
  });
});

describe("a reader that leaves", () => {
  const CANCELLED = expect.objectContaining({
    outcome: "cancelled",
    dispatched: true,
    final: true,
    errorCode: "client_closed",
    inputTokens: 10,
    usageEstimated: true,
  });

  async function begun() {
    const hand = byHand();
    const set = scriptedGateway({ reservations: [grant()], stream: ({ signal }) => hand.stream(signal) });
    const events = open(set);
    await events.next();
    const first = events.next();
    await hand.give("Концерт");
    expect((await first).value).toMatchObject({ type: "delta" });
    return { hand, set, events };
  }

  test("between two pieces, by return(): upstream ends, and what was used is settled", async () => {
    const { hand, set, events } = await begun();
    await events.return?.();
    await settled();
    expect(hand.state.ended).toBe(true);
    expect(set.settlements).toEqual([CANCELLED]);
    expect(await events.next()).toEqual({ done: true, value: undefined });
    expect(set.clock.asleep).toBe(0);
  });

  test("by return() while a piece is awaited", async () => {
    const { hand, set, events } = await begun();
    const next = events.next();
    await settled();
    await events.return?.();
    expect(await next).toEqual({ done: true, value: undefined });
    expect(hand.state.ended).toBe(true);
    expect(set.settlements).toEqual([CANCELLED]);
  });

  test("by hanging up while a piece is awaited", async () => {
    const { hand, set, events } = await begun();
    const next = events.next();
    await settled();
    set.client.abort();
    await expect(next).rejects.toMatchObject({ code: "client_closed" });
    await settled();
    expect(hand.state.ended).toBe(true);
    expect(set.settlements).toEqual([CANCELLED]);
  });

  test("by hanging up while nobody awaits anything", async () => {
    const { hand, set, events } = await begun();
    set.client.abort();
    await settled();
    expect(hand.state.ended).toBe(true);
    expect(set.settlements).toEqual([CANCELLED]);
    await expect(events.next()).rejects.toMatchObject({ code: "client_closed" });
  });

  test("by never coming back: the request's time ends it", async () => {
    const { hand, set, events } = await begun();
    await set.clock.advance(140_000);
    await settled();
    expect(hand.state.ended).toBe(true);
    expect(set.settlements).toHaveLength(1);
    await expect(events.next()).rejects.toMatchObject({ code: "deadline_exceeded" });
  });

  test("a client's signal that aborts after the end, as some servers do, changes nothing", async () => {
    const set = scriptedGateway({ reservations: [grant()] });
    await readAll(open(set));
    set.client.abort();
    await settled();
    expect(set.settlements).toHaveLength(1);
  });
});

test("upstream is read no faster than the reader pulls", async () => {
  const hand = byHand();
  const set = scriptedGateway({ reservations: [grant()], stream: ({ signal }) => hand.stream(signal) });
  const events = open(set);
  await events.next();
  const first = events.next();
  await hand.give("a");
  await first;
  await settled();
  // The piece that was asked for, and none beyond it.
  expect(hand.state.pulled).toBe(1);
  await events.return?.();
});
