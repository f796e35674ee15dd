/** An upstream that never stops talking: no more of it is read than an answer may have. */
import { afterEach, describe, expect, test } from "vitest";
import { BodyTooLong, bytesOf } from "../../../shared/providers/bounded_body.ts";
import { googleProvider } from "../../../shared/providers/google/provider.ts";
import { ProviderFailure } from "../../../shared/providers/provider.ts";
import { MAX_ANSWER_BYTES } from "../../../shared/providers/upstream.ts";

const PIECE = new Uint8Array(64 * 1024).fill(0x20);

/** Spaces without end, and how many of them were taken. */
function endless() {
  const seen = { bytes: 0, cancelled: false };
  const stream = new ReadableStream<Uint8Array>({
    pull(controller) {
      seen.bytes += PIECE.byteLength;
      controller.enqueue(PIECE.slice());
    },
    cancel() {
      seen.cancelled = true;
    },
  }, { highWaterMark: 0 });
  return { stream, seen };
}

describe("[security.endless-answer] a body", () => {
  test("that has no end is read to its bound and left", async () => {
    const { stream, seen } = endless();
    await expect(bytesOf(new Response(stream), 1_000_000)).rejects.toThrow(BodyTooLong);
    expect(seen).toEqual({ bytes: 16 * PIECE.byteLength, cancelled: true });
  });

  test("that says it is too long is not read", async () => {
    const { stream, seen } = endless();
    const response = new Response(stream, { headers: { "content-length": "1000001" } });
    await expect(bytesOf(response, 1_000_000)).rejects.toThrow(BodyTooLong);
    expect(seen).toEqual({ bytes: 0, cancelled: true });
  });

  test("that is packed is counted as it is unpacked, whatever its length says", async () => {
    const { stream, seen } = endless();
    const response = new Response(stream, { headers: { "content-length": "9", "content-encoding": "gzip" } });
    await expect(bytesOf(response, 1_000_000)).rejects.toThrow(BodyTooLong);
    expect(seen.bytes).toBe(16 * PIECE.byteLength);
  });

  test("of just the bound is read whole, in pieces or not", async () => {
    const stream = ReadableStream.from([PIECE, PIECE]);
    expect(await bytesOf(new Response(stream), 2 * PIECE.byteLength)).toHaveLength(2 * PIECE.byteLength);
    const response = new Response(PIECE, { headers: { "content-length": String(PIECE.byteLength) } });
    expect(await bytesOf(response, PIECE.byteLength)).toEqual(PIECE);
    expect(await bytesOf(new Response(null), 1)).toHaveLength(0);
  });
});

describe("[security.endless-answer] Google", () => {
  let server: Deno.HttpServer<Deno.NetAddr> | undefined;
  afterEach(() => server?.shutdown());

  function call(stream: ReadableStream<Uint8Array>, type: string) {
    server = Deno.serve(
      { port: 0, hostname: "127.0.0.1", onListen: () => {} },
      () => new Response(stream, { headers: { "content-type": type } }),
    );
    const provider = googleProvider({ baseUrl: `http://127.0.0.1:${server.addr.port}` });
    return {
      provider,
      call: {
        model: "gemma-4-31b-it",
        secret: "not-a-real-key",
        prompt: { contents: [{ role: "user", parts: [{ text: "?" }] }] },
        signal: new AbortController().signal,
      },
    };
  }
  const failureOf = async (answer: Promise<unknown>) => {
    const thrown = await answer.then(() => null, (error) => error);
    expect(thrown).toBeInstanceOf(ProviderFailure);
    return (thrown as ProviderFailure).diagnosis;
  };
  const tooLarge = { code: "answer_too_large", retryable: false, fault: "nobody", block: null };

  test("answers without end: the call fails with a code of its own, and is not tried again", async () => {
    const { stream, seen } = endless();
    const { provider, call: asked } = call(stream, "application/json");
    expect(await failureOf(provider.text.generate(asked))).toEqual(tooLarge);
    // What the connection holds on its way is beyond it.
    expect(seen.bytes).toBeLessThan(2 * MAX_ANSWER_BYTES);
  });

  test("streams an event without end: likewise", async () => {
    const { stream, seen } = endless();
    const { provider, call: asked } = call(stream, "text/event-stream");
    expect(await failureOf(provider.text.stream(asked).next())).toEqual(tooLarge);
    expect(seen.bytes).toBeLessThan(2 * MAX_ANSWER_BYTES);
  });
});
