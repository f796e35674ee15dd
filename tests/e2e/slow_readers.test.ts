/** Slow readers, through every endpoint: upstream waits for them, and memory does not fill up. */
import postgres from "postgres";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { stillAt } from "../harness/patience.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

const FRAME_CHARS = 16_384;
/** What an upstream sends that nobody holds back, some 600 MB: many times what all buffers on the way hold. */
const FRAMES = 20_000;
/**
 * Sockets on loopback, three hops with two ends each, may grow: the kernel lets one end have up to 32 MB (the maxima of
 * tcp_rmem and tcp_wmem), as the load of the machine has it. What the function itself keeps is the next bound.
 */
const MOST_AHEAD_BYTES = 128 * 1024 * 1024;
const MOST_GROWTH_BYTES = 64 * 1024 * 1024;

const QUIET_MS = 600;

let stack: TestStack;
let sql: postgres.Sql;
let upstream: Deno.HttpServer<Deno.NetAddr>;
/** Of the stream under way. */
let sent = 0;
let released = Promise.withResolvers<void>();

beforeAll(async () => {
  upstream = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, () => {
    sent = 0;
    released = Promise.withResolvers();
    const text = "событие ".repeat(FRAME_CHARS / 8);
    const frame = (rest: object) =>
      new TextEncoder().encode(
        `data: ${
          JSON.stringify({ candidates: [{ content: { parts: [{ text }] }, index: 0, ...rest }] })
        }\r\n\r\n`,
      );
    const one = frame({});
    let frames = 0;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        sent += one.length;
        if (++frames < FRAMES) return controller.enqueue(one);
        controller.enqueue(frame({ finishReason: "STOP" }));
        controller.close();
      },
      cancel: () => released.resolve(),
    }, { highWaterMark: 1 });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  });
  stack = await startTestStack({ googleApiBaseUrl: `http://127.0.0.1:${upstream.addr.port}` });
  sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
});
afterAll(async () => {
  await sql?.end({ timeout: 5 });
  await stack?.stop();
  await upstream?.shutdown();
});
afterEach(() => released.resolve());

async function residentBytes(): Promise<number | null> {
  const pid = stack.functions.get("llm-invoke")!.pid;
  const status = await Deno.readTextFile(`/proc/${pid}/status`).catch(() => "");
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB/m.exec(status) ?? [];
  return kilobytes === undefined ? null : Number(kilobytes) * 1024;
}

const MODEL = "gemma-4-31b-it";
const messages = [{ role: "user", content: "Hello" }];
const contents = [{ role: "user", parts: [{ text: "Hello" }] }];

describe.each([
  ["native", "", { model: MODEL, prompt: "Hello", stream: true }],
  ["OpenAI", "/openai/v1/chat/completions", { model: MODEL, messages, stream: true }],
  ["Gemini", `/v1beta/models/${MODEL}:streamGenerateContent?alt=sse`, { contents }],
  ["Gemini, as one array,", `/v1beta/models/${MODEL}:streamGenerateContent`, { contents }],
])("the %s endpoint", (_, path, body) => {
  test("[native.stream] holds upstream back while its client does not read, and ends it when they leave", async () => {
    const before = await residentBytes();
    const leaving = new AbortController();
    const response = await stack.invoke(`llm-invoke${path}`, body, { signal: leaving.signal });
    expect(response.status).toBe(200);
    const reader = response.body!.getReader();
    await reader.read();

    // Once the buffers on the way are full nothing moves.
    const held = await stillAt(() => Math.min(sent, MOST_AHEAD_BYTES), QUIET_MS);
    expect(held).toBeLessThan(MOST_AHEAD_BYTES);
    const now = await residentBytes();
    if (before !== null && now !== null) expect(now - before).toBeLessThan(MOST_GROWTH_BYTES);

    // The client goes on reading, and so does upstream.
    while (sent <= held) {
      const { done } = await reader.read();
      if (done) throw new Error("the stream ended before its time");
    }

    leaving.abort();
    await reader.cancel().catch(() => {});
    await released.promise;
    const open = async () => (await sql`select count(*)::int as n from eve.inflight`)[0]!.n;
    await expect.poll(open).toBe(0);
    const [attempt] = await sql`
      select outcome, output_tokens, usage_estimated from eve.attempts order by settled_at desc limit 1`;
    expect(attempt).toMatchObject({ outcome: "cancelled", usage_estimated: true });
    // Two characters and more are one token of such a text.
    expect(attempt!.output_tokens).toBeGreaterThan(held / 20);
  });
});
