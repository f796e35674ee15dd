import { afterEach, describe, expect, test } from "vitest";
import { type Emulator, type FaultSpec, startEmulator } from "../../../local/emulator/emulator.ts";
import { textOf } from "../../../shared/contract/content.ts";
import { googleProvider } from "../../../shared/providers/google/provider.ts";
import { stillAt, until } from "../../harness/patience.ts";
import { type ProviderChunk, type ProviderEnd, ProviderFailure } from "../../../shared/providers/provider.ts";

const started: { stop(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(started.splice(0).map((one) => one.stop()));
});

async function emulator(fault?: FaultSpec, chunkDelayMs = 0): Promise<Emulator> {
  const one = await startEmulator({ chunkDelayMs });
  started.push(one);
  if (fault !== undefined) one.control.addFaults(fault);
  return one;
}

/** A server that sends this text as a stream, in Google's place. */
function sending(text: string): { url: string } {
  const server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen: () => {} },
    () => new Response(text, { headers: { "content-type": "text/event-stream" } }),
  );
  started.push({ stop: () => server.shutdown() });
  return { url: `http://127.0.0.1:${(server.addr as Deno.NetAddr).port}` };
}

function stream(at: { url: string }, signal = new AbortController().signal, secret = "demo-key-a") {
  const prompt = { contents: [{ role: "user", parts: [{ text: "Tell me a long story about the sea." }] }] };
  return googleProvider({ baseUrl: at.url }).text.stream({ model: "gemma-4-31b-it", secret, prompt, signal });
}

/** Everything up to the end, or to what it threw. */
async function drained(chunks: AsyncGenerator<ProviderChunk, ProviderEnd, void>) {
  const seen: ProviderChunk[] = [];
  try {
    for (;;) {
      const step = await chunks.next();
      if (step.done) return { seen, end: step.value, thrown: null };
      seen.push(step.value);
    }
  } catch (thrown) {
    return { seen, end: null, thrown };
  }
}
const frame = (value: unknown) => `data: ${JSON.stringify(value)}\r\n\r\n`;
const said = (text: string, more: object = {}) =>
  frame({ candidates: [{ content: { role: "model", parts: [{ text }] }, index: 0, ...more }] });

describe("a stream that goes well", () => {
  test("comes in chunks, ends with its reason, and usage comes from the last chunk", async () => {
    const { seen, end } = await drained(stream(await emulator()));
    expect(seen.length).toBeGreaterThan(2);
    expect(seen.map(({ answer }) => textOf(answer)).join("").length).toBeGreaterThan(10);
    expect(end).toMatchObject({ verdict: { ok: true }, finishReason: "STOP" });
    expect(end?.usage).toEqual(seen.at(-1)?.usage);
    expect(end?.usage?.inputTokens).toBeGreaterThan(0);
  });

  test("the key is in a header and not in the address", async () => {
    const one = await emulator();
    await drained(stream(one));
    const [request] = one.control.requests();
    expect(JSON.stringify(request)).not.toContain("demo-key-a");
    expect(one.control.stats().lastAdmitted).toHaveLength(1);
  });

  test("without figures there is no usage, and nobody makes one up", async () => {
    const { end } = await drained(stream(sending(said("a") + said("b", { finishReason: "STOP" }))));
    expect(end).toEqual({ verdict: { ok: true }, finishReason: "STOP", usage: null });
  });
});

describe("what is no answer is reported at the end", () => {
  test.each([
    ["a filter", said("a") + said("", { finishReason: "SAFETY" }), "content_blocked", "SAFETY"],
    ["a blocked prompt", frame({ promptFeedback: { blockReason: "OTHER" } }), "content_blocked", "OTHER"],
    ["nothing at all", said("", { finishReason: "STOP" }), "empty_answer", "STOP"],
    [
      "thoughts alone",
      frame({
        candidates: [{ content: { parts: [{ text: "Hm", thought: true }] }, finishReason: "MAX_TOKENS" }],
      }),
      "empty_answer",
      "MAX_TOKENS",
    ],
  ])("%s", async (_, text, code, reason) => {
    const { end } = await drained(stream(sending(text)));
    expect(end?.verdict).toEqual({ ok: false, code, reason });
  });
});

describe("a stream that fails", () => {
  test.each<[string, FaultSpec, number, string, number | null]>([
    ["at once, with a status", { kind: "status", error: "overloaded" }, 0, "upstream_unavailable", 503],
    ["before a byte", { kind: "disconnect" }, 0, "upstream_unavailable", null],
    [
      "with a frame that is an error",
      { kind: "mid_stream_error", afterChunks: 2 },
      2,
      "upstream_unavailable",
      503,
    ],
    [
      "with bare JSON",
      { kind: "mid_stream_error", afterChunks: 2, as: "raw" },
      2,
      "upstream_unavailable",
      503,
    ],
    ["by a reset", { kind: "broken_stream", afterChunks: 2 }, 2, "upstream_unavailable", null],
    [
      "by an end before the answer's",
      { kind: "broken_stream", afterChunks: 2, how: "end" },
      2,
      "upstream_unavailable",
      null,
    ],
    ["in the middle of a frame", { kind: "malformed_json" }, -1, "upstream_unavailable", null],
  ])(
    "%s",
    async (_, fault, chunks, code, status) => {
      const { seen, thrown } = await drained(stream(await emulator(fault)));
      expect(thrown).toBeInstanceOf(ProviderFailure);
      expect(thrown).toMatchObject({ upstreamStatus: status, diagnosis: { code, retryable: true } });
      if (chunks >= 0) expect(seen).toHaveLength(chunks);
      else expect(seen.length).toBeGreaterThan(0);
    },
  );

  test("with a key that upstream rejects, the key is at fault and not repeated", async () => {
    const { thrown } = await drained(stream(await emulator(), undefined, "no-such-key"));
    expect(thrown).toMatchObject({ upstreamStatus: 400, diagnosis: { fault: "key", code: "key_rejected" } });
    expect(Deno.inspect(thrown, { depth: 10 })).not.toContain("no-such-key");
  });
});

describe("leaving", () => {
  test("an aborted signal ends the upstream request", async () => {
    const one = await emulator(undefined, 50);
    const client = new AbortController();
    const chunks = stream(one, client.signal);
    await chunks.next();
    client.abort(new Error("gone"));
    await expect(chunks.next()).rejects.toThrow("gone");
    await until(() => one.control.stats().aborted.streams === 1);
  });

  test("a reader that stops pulling stops the sender: what is sent ahead fits into the buffers between", async () => {
    const CHUNK = said("x".repeat(100_000));
    let sent = 0;
    const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, () =>
      new Response(
        new ReadableStream({
          async pull(controller) {
            sent++;
            controller.enqueue(new TextEncoder().encode(CHUNK));
            await new Promise((resolve) => setTimeout(resolve, 0));
          },
        }, { highWaterMark: 0 }),
      ));
    started.push({ stop: () => server.shutdown() });
    const client = new AbortController();
    const chunks = stream({ url: `http://127.0.0.1:${(server.addr as Deno.NetAddr).port}` }, client.signal);
    await chunks.next();
    // Sockets on loopback hold some megabytes; a reader without back-pressure takes hundreds.
    expect(await stillAt(() => Math.min(sent, 150), 500)).toBeLessThan(150);
    await chunks.return({} as ProviderEnd);
    client.abort();
  });
});

describe("an embedding", () => {
  const embed = (at: { url: string }, text: string, more: object = {}) =>
    googleProvider({ baseUrl: at.url }).embeddings.embed({
      model: "gemini-embedding-001",
      secret: "demo-key-a",
      item: { content: { parts: [{ text }] }, ...more },
      signal: new AbortController().signal,
    });

  test("is a vector of the length that was asked for", async () => {
    const { embedding } = await embed(await emulator(), "концерт в парке", { outputDimensionality: 256 });
    expect(embedding.values).toHaveLength(256);
  });

  test("is one of many, in one call", async () => {
    const at = await emulator();
    const items = ["концерт", "лекция"].map((text) => ({
      content: { parts: [{ text }] },
      outputDimensionality: 64,
    }));
    const call = {
      model: "gemini-embedding-001",
      secret: "demo-key-a",
      items,
      signal: new AbortController().signal,
    };
    const { embeddings } = await googleProvider({ baseUrl: at.url }).embeddings.embedMany!(call);
    expect(embeddings[1]).toEqual((await embed(at, "лекция", { outputDimensionality: 64 })).embedding);
    const short = googleProvider({ baseUrl: sending('{"embeddings":[{"values":[1]}]}').url }).embeddings;
    await expect(short.embedMany!(call)).rejects.toThrow(ProviderFailure);
  });

  test("fails as an answer does", async () => {
    const one = await emulator({ kind: "status", error: "overloaded" });
    await expect(embed(one, "x")).rejects.toMatchObject({ upstreamStatus: 503 });
    await expect(embed(sending('{"embedding":null}'), "x")).rejects.toThrow(ProviderFailure);
  });
});
