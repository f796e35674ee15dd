/** Who asks for streams and reads none of them, on a whole stack, with connections of their own. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { MOST_UNREAD_STREAMS } from "../../shared/gateway/streams/unread_streams.ts";
import { type Actors, MODEL, startWithActors } from "./actors.ts";

/** More than one caller may leave unread. */
const STREAMS = MOST_UNREAD_STREAMS + 6;
/** Of each piece: sockets on the way are full after some dozens, or some hundreds where the system makes them large. */
const PIECE = "x".repeat(64 * 1024);

let all: Actors;
/** Stands in for Google: streams without an end, and short ones for those who ask for one. */
let upstream: Deno.HttpServer<Deno.NetAddr>;
/** Calls that are open upstream, by the prompt. */
const open = new Map<string, number>();
/** From then on those without an end get one. */
let finishing = false;
const count = (prompt: string, more: number) => open.set(prompt, (open.get(prompt) ?? 0) + more);

const event = (text: string, last = false) =>
  new TextEncoder().encode(`data: ${
    JSON.stringify({
      candidates: [{
        index: 0,
        content: { role: "model", parts: [{ text }] },
        ...(last && { finishReason: "STOP" }),
      }],
      usageMetadata: { promptTokenCount: 1, candidatesTokenCount: 1, totalTokenCount: 2 },
    })
  }\r\n\r\n`);

beforeAll(async () => {
  upstream = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const asked = await request.text();
    if (!request.url.includes("streamGenerateContent")) return Response.json({ totalTokens: 1 });
    const prompt = /Say (\w+)/.exec(asked)?.[1] ?? "nothing";
    count(prompt, 1);
    let pieces = 0;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        pieces++;
        const last = prompt === "hello" ? pieces === 3 : finishing;
        controller.enqueue(event(prompt === "hello" ? "Hello" : PIECE, last));
        if (!last) return;
        count(prompt, -1);
        controller.close();
      },
      cancel: () => void count(prompt, -1),
    }, { highWaterMark: 0 });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  });
  all = await startWithActors({ googleApiBaseUrl: `http://127.0.0.1:${upstream.addr.port}` });
});
afterAll(async () => {
  await all?.stop();
  await upstream?.shutdown();
});

/** A stream that has begun, of which nothing more is read. */
async function begun(headers: Record<string, string>, prompt: string): Promise<Deno.TcpConn> {
  const { hostname, port } = new URL(all.stack.url);
  const connection = await Deno.connect({ hostname, port: Number(port) });
  const body = JSON.stringify({ model: MODEL, prompt: `Say ${prompt}`, stream: true });
  const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join("");
  await connection.write(new TextEncoder().encode(
    `POST /functions/v1/llm-invoke HTTP/1.1\r\nHost: ${hostname}\r\n${head}` +
      `content-type: application/json\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`,
  ));
  const first = new Uint8Array(1_024);
  const length = await connection.read(first) ?? 0;
  expect(new TextDecoder().decode(first.subarray(0, length))).toMatch(/^HTTP\/1\.1 200/);
  return connection;
}

async function read(headers: Record<string, string>): Promise<string> {
  const response = await fetch(`${all.stack.url}/functions/v1/llm-invoke`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ model: MODEL, prompt: "Say hello", stream: true }),
  });
  return await response.text();
}

test("[security.slow] a caller keeps a few of them, whichever token they use; the others end, and who reads is served", async () => {
  const tokens = [all.secrets.token!, await all.tokenFor(), await all.tokenFor()];
  const connections: Deno.TcpConn[] = [];
  for (let n = 0; n < STREAMS; n++) {
    connections.push(await begun({ authorization: `Bearer ${tokens[n % tokens.length]}` }, "endless"));
  }
  expect(open.get("endless")).toBe(STREAMS);
  const others = await begun({ apikey: all.secrets.other! }, "another");
  // Five seconds after the sockets on the way are full.
  await expect.poll(() => open.get("endless"), { interval: 100 }).toBe(MOST_UNREAD_STREAMS);
  expect(open.get("another")).toBe(1);
  expect(await read({ apikey: all.secrets.service! })).toContain("Hello");
  // The caller gets no further stream meanwhile.
  expect(await read({ authorization: `Bearer ${tokens[0]}` })).toContain("streams_unread");
  expect(open.get("hello")).toBe(0);

  // Those that were ended say why, to anybody who reads them after all; the others were kept whole.
  finishing = true;
  const ends: string[] = [];
  for (const connection of connections) ends.push(await endOf(connection));
  const broken = ends.filter((end) => end.includes("streams_unread"));
  expect(broken).toHaveLength(STREAMS - MOST_UNREAD_STREAMS);
  for (const end of ends) expect(end).toMatch(/streams_unread|event: done/);
  others.close();
  await expect.poll(() => [open.get("endless"), open.get("another")], { interval: 100 }).toEqual([0, 0]);
  expect(await read({ authorization: `Bearer ${tokens[0]}` })).toContain("Hello");
});

/** The last of what comes. */
async function endOf(connection: Deno.TcpConn): Promise<string> {
  const piece = new Uint8Array(256 * 1024);
  let tail = "";
  for (;;) {
    const length = await connection.read(piece);
    if (length === null) break;
    tail = (tail + new TextDecoder().decode(piece.subarray(Math.max(0, length - 2_000), length))).slice(
      -2_000,
    );
  }
  connection.close();
  return tail;
}
