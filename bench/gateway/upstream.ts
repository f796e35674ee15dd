/**
 * An upstream that costs as little as it can: the same answer to every call, after a delay that `POST /__delay` sets (ms).
 * What a gateway adds is measured against it. Speaks Gemini's generateContent and streamGenerateContent.
 */
const ANSWER = {
  candidates: [{
    content: { role: "model", parts: [{ text: "Concert, 14 February, 600" }] },
    finishReason: "STOP",
    index: 0,
  }],
  usageMetadata: {
    promptTokenCount: 12,
    candidatesTokenCount: 8,
    totalTokenCount: 20,
  },
  modelVersion: "bench",
};
const JSON_BODY = JSON.stringify(ANSWER);
const FRAME = new TextEncoder().encode(`data: ${JSON_BODY}\r\n\r\n`);
/** Frames of a stream, and the time between them. */
const FRAMES = 5;
const FRAME_MS = 10;

let delayMs = 0;
const pause = (ms: number) =>
  ms > 0 ? new Promise<void>((resolve) => setTimeout(resolve, ms)) : Promise.resolve();

async function* frames() {
  for (let n = 0; n < FRAMES; n++) {
    if (n > 0) await pause(FRAME_MS);
    yield FRAME;
  }
}

const server = Deno.serve({
  hostname: "127.0.0.1",
  port: 0,
  onListen: () => {},
}, async (request) => {
  if (request.url.endsWith("/__delay")) {
    delayMs = Number(await request.text());
    return new Response(null, { status: 204 });
  }
  await request.arrayBuffer();
  await pause(delayMs);
  if (request.url.includes(":streamGenerateContent")) {
    return new Response(ReadableStream.from(frames()), {
      headers: { "content-type": "text/event-stream" },
    });
  }
  return new Response(JSON_BODY, {
    headers: { "content-type": "application/json" },
  });
});
console.log(`listening http://127.0.0.1:${server.addr.port}`);
