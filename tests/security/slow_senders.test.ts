/** Who sends half of something and waits, at the local stack's one address. Time goes on when the test says so. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { IDLE_TIMEOUT_MS } from "../../local/idle_connections.ts";
import { functionProcesses } from "../../local/functions_host.ts";
import { type ReverseProxy, startReverseProxy } from "../../local/reverse_proxy.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { freePorts } from "../harness/ports.ts";
import type { SupervisedProcess } from "../../local/supervised_process.ts";
import type { Clock } from "../../shared/runtime/clock.ts";
import { BODY_TIMEOUT_MS } from "../../shared/http/body.ts";
import { makeTestFolder, type TestFolder } from "../harness/folders.ts";

let folder: TestFolder;
let functions: Map<string, SupervisedProcess>;
let origin: ReverseProxy;
let port: number;

let now = 0;
const timers = new Set<{ at: number; fire: () => void }>();
const clock: Clock = {
  now: () => now,
  sleep: () => expect.unreachable("nothing here sleeps"),
  after(ms, fire) {
    const one = { at: now + ms, fire };
    timers.add(one);
    return () => void timers.delete(one);
  },
};
function pass(ms: number) {
  now += ms;
  for (const one of [...timers]) if (one.at <= now && timers.delete(one)) one.fire();
}
/** Resolves when a timer of this length has been set. */
const waitingFor = (ms: number, count = 1) =>
  expect.poll(() => [...timers].filter(({ at }) => at === now + ms).length, { interval: 5 })
    .toBe(count);

beforeAll(async () => {
  folder = await makeTestFolder();
  functions = await functionProcesses({
    functionsDir: `${CHECKOUT}/tests/local/functions`,
    denoConfig: `${CHECKOUT}/deno.json`,
    entriesDir: folder.path,
    env: {},
    output: () => {},
    log: () => {},
  });
  await functions.get("echo")!.start();
  [port] = freePorts(1) as [number];
  origin = startReverseProxy({
    port,
    functions,
    api: async (request) => new Response(`api: ${await request.text()}`),
    log: () => {},
    clock,
  });
});
afterAll(async () => {
  await Promise.all([...functions.values()].map((process) => process.stop()));
  await origin?.shutdown();
  await folder?.remove();
});

async function connected(text: string): Promise<Deno.TcpConn> {
  const connection = await Deno.connect({ hostname: "127.0.0.1", port });
  await say(connection, text);
  return connection;
}
const say = (connection: Deno.TcpConn, text: string) => connection.write(new TextEncoder().encode(text));
/** All that still comes, up to the end of the connection. */
const rest = (connection: Deno.TcpConn) => new Response(connection.readable).text();
/** What comes up to these words. */
async function upTo(connection: Deno.TcpConn, words: string): Promise<string> {
  let text = "";
  const piece = new Uint8Array(4_096);
  while (!text.includes(words)) {
    const count = await connection.read(piece);
    if (count === null) throw new Error(`ended before ${words}: ${text}`);
    text += new TextDecoder().decode(piece.subarray(0, count));
  }
  return text;
}

const ECHO = "/functions/v1/echo/request";

test.each([
  ["nothing", ""],
  ["half a head", "GET / HTTP/1.1\r\nHost: eve\r\nX-"],
  ["half a line", "G"],
])("[security.slow] %s holds a connection no longer than the time-out", async (_, text) => {
  const connection = await connected(text);
  await waitingFor(IDLE_TIMEOUT_MS);
  pass(IDLE_TIMEOUT_MS - 1);
  expect([...timers]).toHaveLength(1);
  pass(1);
  expect(await rest(connection)).toBe("");
});

test("half a head after a whole request holds it no longer either", async () => {
  const connection = await connected("GET / HTTP/1.1\r\nHost: eve\r\n\r\n");
  await upTo(connection, "EVE Gateway");
  await say(connection, "GET / HTTP/1.1\r\nHost:");
  await waitingFor(IDLE_TIMEOUT_MS);
  pass(IDLE_TIMEOUT_MS);
  expect(await rest(connection)).toBe("");
});

test("a request in progress is not idle, however long it takes", async () => {
  const connection = await connected(`GET /functions/v1/echo/hang?mark=slow HTTP/1.1\r\nHost: eve\r\n\r\n`);
  await expect.poll(() => timers.size, { interval: 5 }).toBe(0);
  pass(10 * IDLE_TIMEOUT_MS);
  await say(connection, "");
  connection.close();
});

test("a connection serves one request after the other", async () => {
  const connection = await connected("");
  for (let n = 0; n < 3; n++) {
    await say(connection, `PUT ${ECHO} HTTP/1.1\r\nHost: eve\r\nContent-Length: 2\r\n\r\nn${n}`);
    expect(await upTo(connection, `n${n}"`)).toMatch(/^HTTP\/1.1 201/);
    await waitingFor(IDLE_TIMEOUT_MS);
    pass(IDLE_TIMEOUT_MS - 1);
  }
  connection.close();
  await expect.poll(() => timers.size, { interval: 5 }).toBe(0);
});

test("half a body to the REST API is given up", async () => {
  const connection = await connected("");
  await waitingFor(IDLE_TIMEOUT_MS);
  const idle = [...timers];
  await say(connection, "POST /rest/v1/x HTTP/1.1\r\nHost: eve\r\nContent-Length: 10\r\n\r\n12345");
  // The time for the body is as long as the one for a connection that says nothing, which is over by then.
  await expect.poll(() => [...timers].filter((one) => !idle.includes(one)).length, { interval: 5 }).toBe(1);
  await expect.poll(() => timers.size, { interval: 5 }).toBe(1);
  pass(BODY_TIMEOUT_MS);
  expect(await upTo(connection, "body_timeout")).toMatch(/^HTTP\/1.1 408/);
  connection.close();
});

test("a body that is too large for the REST API is refused by what it says of itself", async () => {
  const connection = await connected(
    "POST /rest/v1/x HTTP/1.1\r\nHost: eve\r\nContent-Length: 99999999\r\n\r\n1",
  );
  expect(await upTo(connection, "body_too_large")).toMatch(/^HTTP\/1.1 413/);
  connection.close();
});

test.each([
  "CONNECT example.com:443",
  "CONNECT /",
  "TRACE /",
  "TRACE /functions/v1/echo",
  "TRACK /rest/v1/x",
])(
  "%s is not served",
  async (line) => {
    const connection = await connected(
      `${line} HTTP/1.1\r\nHost: example.com:443\r\nConnection: close\r\n\r\n`,
    );
    expect(await upTo(connection, "\r\n")).toMatch(/^HTTP\/1.1 40[05] /);
    connection.close();
  },
);

test("a refusal reaches a client that is still sending", async () => {
  const connection = await connected(
    "POST /nothing HTTP/1.1\r\nHost: eve\r\nContent-Length: 5000000\r\n\r\n",
  );
  const sending = (async () => {
    for (let n = 0; n < 50; n++) await say(connection, "x".repeat(100_000));
  })().catch(() => {});
  expect(await upTo(connection, "not_found")).toMatch(/^HTTP\/1.1 404/);
  connection.close();
  await sending;
});
