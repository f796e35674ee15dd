/** Who sends half of something and waits, at the local stack's one address. */
import { afterAll, beforeAll, expect, test } from "vitest";
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
/** As it is, and one that has no patience. */
let proxies: ReverseProxy[];
let port: number;
let impatient: number;

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
  [port, impatient] = freePorts(2) as [number, number];
  const options = {
    functions,
    api: async (request: Request) => new Response(`api: ${await request.text()}`),
    log: () => {},
    clock,
  };
  proxies = [
    await startReverseProxy({ ...options, port }),
    await startReverseProxy({ ...options, port: impatient, idleTimeoutMs: 100 }),
  ];
});
afterAll(async () => {
  await Promise.all([...functions.values()].map((process) => process.stop()));
  await Promise.all(proxies.map((one) => one.shutdown()));
  await folder?.remove();
});

async function connected(text: string, to = port): Promise<Deno.TcpConn> {
  const connection = await Deno.connect({ hostname: "127.0.0.1", port: to });
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
  // Without an end of its own, this test has none.
  expect(await rest(await connected(text, impatient))).toMatch(/^$|^HTTP\/1.1 408 /);
});

test("half a head after a whole request holds it no longer either", async () => {
  const connection = await connected("GET / HTTP/1.1\r\nHost: eve\r\n\r\nGET / HTTP/1.1\r\nHost:", impatient);
  expect(await rest(connection)).toContain("EVE Gateway");
});

test("a request in progress is not idle, however long it takes", async () => {
  const slow = await connected(
    "GET /functions/v1/echo/hang?mark=slow HTTP/1.1\r\nHost: eve\r\n\r\n",
    impatient,
  );
  let ended = false;
  const answer = rest(slow).then(() => ended = true, () => ended = true);
  // Meanwhile others come and go.
  for (let n = 0; n < 5; n++) await rest(await connected("", impatient));
  expect(ended).toBe(false);
  slow.close();
  await answer;
});

test("a connection serves one request after the other", async () => {
  const connection = await connected("");
  for (let n = 0; n < 3; n++) {
    await say(connection, `PUT ${ECHO} HTTP/1.1\r\nHost: eve\r\nContent-Length: 2\r\n\r\nn${n}`);
    expect(await upTo(connection, `n${n}"`)).toMatch(/^HTTP\/1.1 201/);
  }
  connection.close();
});

test("half a body to the REST API is given up", async () => {
  const connection = await connected(
    "POST /rest/v1/x HTTP/1.1\r\nHost: eve\r\nContent-Length: 10\r\n\r\n12345",
  );
  await waitingFor(BODY_TIMEOUT_MS);
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
