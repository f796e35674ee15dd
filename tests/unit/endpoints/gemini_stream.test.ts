import { describe, expect, test } from "vitest";
import type { Answer } from "../../../shared/contract/content.ts";
import type { GatewayEvent } from "../../../shared/contract/events.ts";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { GatewayResult } from "../../../shared/contract/result.ts";
import { streamGemini } from "../../../shared/endpoints/gemini/stream.ts";
import { RESULT } from "./router_fixture.ts";

const SSE = { sse: true, numericEnums: false };
const ARRAY = { sse: false, numericEnums: false };
const OPTIONS = { model: "gemma-4-31b-it", requestId: "r1", encoding: SSE };

const started: GatewayEvent = {
  type: "started",
  attempt: 1,
  model: "gemma-4-31b-it",
  keyAlias: "demo-a",
  limits: RESULT.limits,
};
const delta = (text: string): GatewayEvent => ({ type: "delta", chunk: saying(text) });
const saying = (text: string): Answer => ({ candidates: [{ content: { parts: [{ text }] } }] });
const done = (more: Partial<GatewayResult> = {}): GatewayEvent => ({
  type: "done",
  result: { ...RESULT, ...more },
});

async function* events(...items: (GatewayEvent | Error)[]): AsyncGenerator<GatewayEvent> {
  for (const item of items) {
    await Promise.resolve();
    if (item instanceof Error) throw item;
    yield item;
  }
}

describe("a stream's frames", () => {
  test("are Google's, one for each chunk, with nothing between or after them", async () => {
    const response = await streamGemini(events(started, delta("a"), delta("b"), done()), OPTIONS);
    expect(response.headers.get("content-type")).toBe("text/event-stream");
    expect(await response.text()).toBe(
      `data: ${JSON.stringify(saying("a"))}\r\n\r\ndata: ${JSON.stringify(saying("b"))}\r\n\r\n`,
    );
  });

  test("are one JSON array without alt=sse", async () => {
    const response = await streamGemini(events(started, delta("a"), delta("b"), done()), {
      ...OPTIONS,
      encoding: ARRAY,
    });
    expect(response.headers.get("content-type")).toContain("application/json");
    expect(await response.json()).toEqual([saying("a"), saying("b")]);
  });

  test("have their enums as numbers for who asks", async () => {
    const chunk = { candidates: [{ finishReason: "STOP" }] };
    const response = await streamGemini(events(started, { type: "delta", chunk }, done()), {
      ...OPTIONS,
      encoding: { sse: false, numericEnums: true },
    });
    expect(await response.json()).toEqual([{ candidates: [{ finishReason: 1 }] }]);
  });

  test("a repeated request's answer comes in one, and says that it is repeated", async () => {
    const response = await streamGemini(events(done({ replayed: true, limits: null })), OPTIONS);
    expect(response.headers.get("x-eve-replayed")).toBe("true");
    expect(await response.text()).toBe(`data: ${JSON.stringify(RESULT.answer)}\r\n\r\n`);
  });

  test("one that was never started is such a repetition", async () => {
    const replay = await streamGemini(events(delta("a"), done({ replayed: true })), OPTIONS);
    expect(replay.headers.get("x-eve-replayed")).toBe("true");
    const first = await streamGemini(events(started, delta("a"), done()), OPTIONS);
    expect(first.headers.get("x-eve-replayed")).toBeNull();
  });

  test("the headers know the limits, and the model that serves for another", async () => {
    const { headers } = await streamGemini(events(started, delta("a"), done()), {
      ...OPTIONS,
      model: "gemma-3-27b",
    });
    expect(headers.get("x-eve-model")).toBe("gemma-4-31b-it");
    expect(headers.get("x-ratelimit-limit-requests")).toBe("30");
    expect(headers.get("x-eve-request-id")).toBe("r1");
  });
});

describe("what fails", () => {
  const overloaded = new GatewayError("upstream_unavailable");

  test("before the first chunk is an error like any other", async () => {
    await expect(streamGemini(events(started, overloaded), OPTIONS)).rejects.toBe(overloaded);
  });

  test.each([["frame", SSE], ["element", ARRAY]])("later is the last %s", async (_, encoding) => {
    const response = await streamGemini(events(started, delta("a"), overloaded), { ...OPTIONS, encoding });
    const text = await response.text();
    const frames = encoding.sse
      ? text.split("\r\n\r\n").slice(0, -1).map((frame) => JSON.parse(frame.slice("data: ".length)))
      : JSON.parse(text);
    expect(frames).toEqual([
      saying("a"),
      { error: expect.objectContaining({ code: 503, status: "UNAVAILABLE" }) },
    ]);
  });

  test("later leaves an array without an end where the client would pass over it", async () => {
    const response = await streamGemini(events(started, delta("a"), overloaded), {
      ...OPTIONS,
      encoding: { sse: false, numericEnums: true },
    });
    const text = await response.text();
    expect(() => JSON.parse(text)).toThrow();
    expect(JSON.parse(`${text}]`).at(-1)).toEqual({ error: expect.objectContaining({ code: 503 }) });
  });

  test("thoughts are sent to no client that would take them for text", async () => {
    const thought = { candidates: [{ content: { parts: [{ text: "Hmm", thought: true }] } }] };
    const response = await streamGemini(
      events(started, { type: "delta", chunk: thought }, delta("a"), done()),
      { ...OPTIONS, encoding: { sse: false, numericEnums: true } },
    );
    expect(JSON.parse(await response.text())).toEqual([saying("a")]);
  });

  test("an answer with nothing in it is an error, unless it says why", async () => {
    const empty = (code: "empty_answer" | "content_blocked", reason: string) =>
      streamGemini(
        events(started, { type: "delta", chunk: {} }, done({ verdict: { ok: false, code, reason } })),
        OPTIONS,
      ).then((response) => response.text());
    expect(await empty("empty_answer", "STOP")).toContain('"code":502');
    expect(await empty("empty_answer", "MAX_TOKENS")).not.toContain("error");
    expect(await empty("content_blocked", "SAFETY")).not.toContain("error");
  });

  test("an empty answer without a chunk is an error before the stream", async () => {
    const verdict = { ok: false, code: "empty_answer", reason: "NO_CANDIDATES" } as const;
    await expect(streamGemini(events(started, done({ verdict })), OPTIONS)).rejects.toMatchObject({
      code: "empty_answer",
    });
  });
});

describe("the reader", () => {
  test("gets each chunk before the next one is there", async () => {
    const { promise, resolve: release } = Promise.withResolvers<void>();
    async function* slow(): AsyncGenerator<GatewayEvent> {
      yield delta("a");
      await promise;
      yield delta("b");
      yield done();
    }
    const reader = (await streamGemini(slow(), OPTIONS)).body!.getReader();
    expect(new TextDecoder().decode((await reader.read()).value)).toContain('"a"');
    const second = reader.read();
    release();
    expect(new TextDecoder().decode((await second).value)).toContain('"b"');
  });

  test("that is slow holds up what feeds it", async () => {
    let made = 0;
    async function* fast(): AsyncGenerator<GatewayEvent> {
      for (; made < 1_000; made++) yield delta("x");
      yield done();
    }
    const reader = (await streamGemini(fast(), OPTIONS)).body!.getReader();
    await reader.read();
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(made).toBeLessThan(3);
    await reader.cancel();
  });

  test("that leaves ends the call, even while nothing comes", async () => {
    let left = false;
    const silent: AsyncIterable<GatewayEvent> = {
      [Symbol.asyncIterator]: () => {
        let first = true;
        return {
          next: () => {
            if (!first) return new Promise(() => {});
            first = false;
            return Promise.resolve({ done: false, value: delta("a") });
          },
          return: () => {
            left = true;
            return Promise.resolve({ done: true, value: undefined });
          },
        };
      },
    };
    const reader = (await streamGemini(silent, OPTIONS)).body!.getReader();
    await reader.read();
    reader.read().catch(() => {});
    await reader.cancel();
    expect(left).toBe(true);
  });
});
