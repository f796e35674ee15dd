import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasProgram } from "../../harness/programs.ts";
import { systemClock } from "../../../shared/runtime/clock.ts";
import {
  type Connect,
  type Connection,
  type Endpoint,
  pinnedRequest,
} from "../../../shared/http/outgoing/pinned_request.ts";
import { fetchPublic } from "../../../shared/http/outgoing/public_fetch.ts";

const latin = (text: string) => Uint8Array.from(text, (char) => char.charCodeAt(0));

/** A server that has written its answer already, in these pieces. */
function answering(pieces: Uint8Array[]) {
  let written = "";
  let closed = false;
  const left = [...pieces];
  const connection: Connection = {
    readable: new ReadableStream({
      pull(controller) {
        const piece = left.shift();
        if (piece === undefined) controller.close();
        else controller.enqueue(piece);
      },
    }, { highWaterMark: 0 }),
    writable: new WritableStream({ write: (bytes) => void (written += new TextDecoder().decode(bytes)) }),
    close: () => closed = true,
  };
  return { connect: () => Promise.resolve(connection), written: () => written, closed: () => closed };
}

const get = (
  connect: Connect,
  url = "https://pictures.example.com/a.png?b=%0d%0ac d",
  signal = new AbortController().signal,
) =>
  pinnedRequest({ url: new URL(url), method: "GET", headers: { accept: "image/*" } }, {
    connect,
    addresses: ["93.184.216.34"],
    signal,
  });

/** The bytes, cut at these places. */
function cutAt(bytes: Uint8Array, places: number[]): Uint8Array[] {
  const cuts = [...new Set(places.map((place) => place % bytes.length))].sort((a, b) => a - b);
  return [...cuts, bytes.length].map((cut, n, all) => bytes.slice(n === 0 ? 0 : all[n - 1], cut));
}

const joined = (...parts: Uint8Array[]) => new Uint8Array(parts.flatMap((part) => [...part]));

describe("an answer", () => {
  test("arrives whole, however it is framed and cut into pieces", async () => {
    await fc.assert(fc.asyncProperty(
      fc.uint8Array({ maxLength: 60 }),
      fc.constantFrom("length", "chunked", "close"),
      fc.array(fc.nat(10_000), { maxLength: 30 }),
      fc.integer({ min: 1, max: 25 }),
      async (body, framing, places, chunk) => {
        const head = (field: string) => latin(`HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n${field}\r\n`);
        const chunks = Array.from({ length: Math.ceil(body.length / chunk) }, (_, n) => {
          const piece = body.slice(n * chunk, (n + 1) * chunk);
          return joined(latin(`${piece.length.toString(16)};x=y\r\n`), piece, latin("\r\n"));
        });
        const bytes = framing === "length"
          ? joined(head(`Content-Length: ${body.length}\r\n`), body, latin("left over"))
          : framing === "chunked"
          ? joined(head("Transfer-Encoding: chunked\r\n"), ...chunks, latin("0\r\n\r\n"))
          : joined(head(""), body);
        const server = answering(cutAt(bytes, places));
        const response = await get(server.connect);
        expect(response.headers.get("content-type")).toBe("image/png");
        expect(new Uint8Array(await response.arrayBuffer())).toEqual(body);
        expect(server.closed()).toBe(true);
      },
    ));
  });

  test("is asked for under the name, in one well-formed request", async () => {
    const server = answering([latin("HTTP/1.1 204 No Content\r\n\r\n")]);
    expect((await get(server.connect)).status).toBe(204);
    expect(server.written().split("\r\n")).toEqual([
      "GET /a.png?b=%0d%0ac%20d HTTP/1.1",
      "accept: image/*",
      "host: pictures.example.com",
      "accept-encoding: identity",
      "connection: close",
      "",
      "",
    ]);
  });

  test("to a POST: its body goes with its length, to the port of the address", async () => {
    const server = answering([latin("HTTP/1.1 200 OK\r\n\r\n")]);
    const asked: Endpoint[] = [];
    const connect = (to: Endpoint) => {
      asked.push(to);
      return server.connect();
    };
    await pinnedRequest({
      url: new URL("https://hooks.example.com:8443/a"),
      method: "POST",
      headers: { "content-type": "application/json" },
      body: new TextEncoder().encode('{"é":1}'),
    }, { connect, addresses: ["93.184.216.34"], signal: new AbortController().signal });
    expect(asked).toEqual([{ address: "93.184.216.34", port: 8443, tlsName: "hooks.example.com" }]);
    expect(server.written().split("\r\n")).toEqual([
      "POST /a HTTP/1.1",
      "content-type: application/json",
      "content-length: 8",
      "host: hooks.example.com:8443",
      "accept-encoding: identity",
      "connection: close",
      "",
      '{"é":1}',
    ]);
  });

  test("may be announced first", async () => {
    const server = answering([
      latin("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.0 404 Not Found\r\n\r\nno"),
    ]);
    expect(await (await get(server.connect)).text()).toBe("no");
  });

  test.each([
    ["nothing", ""],
    ["another protocol", "SSH-2.0-OpenSSH_9.6\r\n"],
    ["half a head", "HTTP/1.1 200 OK\r\nContent-"],
    ["a header without a name", "HTTP/1.1 200 OK\r\n: x\r\n\r\n"],
    ["a header that is none", "HTTP/1.1 200 OK\r\na b: x\r\n\r\n"],
    ["a head without an end", `HTTP/1.1 200 OK\r\n${"x: y\r\n".repeat(9_000)}`],
  ])("that is %s is an error, and the connection is closed", async (_, text) => {
    const server = answering([latin(text)]);
    await expect(get(server.connect)).rejects.toThrow();
    expect(server.closed()).toBe(true);
  });

  test.each([
    ["shorter than it said", "Content-Length: 9\r\n\r\nabc"],
    ["of two lengths", "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"],
    ["in chunks that have no size", "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc"],
    ["in chunks that go on", "Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n"],
    ["compressed on its way", "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"],
  ])("%s is an error", async (_, rest) => {
    const response = await get(answering([latin(`HTTP/1.1 200 OK\r\n${rest}`)]).connect);
    await expect(response.arrayBuffer()).rejects.toThrow();
  });

  test("that nobody waits for any more is left", async () => {
    const leaving = new AbortController();
    let close = () => {};
    const silent: Connection = {
      readable: new ReadableStream({
        start: (controller) => void (close = () => controller.error(new Error("closed"))),
      }),
      writable: new WritableStream(),
      close: () => close(),
    };
    const waiting = get(() => Promise.resolve(silent), undefined, leaving.signal);
    setTimeout(() => leaving.abort());
    await expect(waiting).rejects.toThrow("closed");
  });
});

test("another address is tried when the first does not answer", async () => {
  const asked: Endpoint[] = [];
  const server = answering([latin("HTTP/1.1 200 OK\r\n\r\nyes")]);
  const connect = (to: Endpoint) => {
    asked.push(to);
    return asked.length === 1 ? Promise.reject(new Error("unreachable")) : server.connect();
  };
  const response = await pinnedRequest({
    url: new URL("http://pictures.example.com/"),
    method: "GET",
    headers: {},
  }, {
    connect,
    addresses: ["2606:4700::1111", "93.184.216.34"],
    signal: new AbortController().signal,
  });
  expect(await response.text()).toBe("yes");
  expect(asked.map(({ address }) => address)).toEqual(["2606:4700::1111", "93.184.216.34"]);
  expect(asked[1]).toEqual({ address: "93.184.216.34", port: 80, tlsName: null });
});

const hasOpenSsl = hasProgram("openssl", ["version"]);

// In CI it is installed, and nothing is skipped.
describe.skipIf(!hasOpenSsl && !Deno.env.get("CI"))("over TLS, a name that changes its address", () => {
  const NAME = "pictures.example.com";
  const PUBLIC = "93.184.216.34";
  let folder: string;
  let root: string;
  let server: Deno.HttpServer<Deno.NetAddr>;

  beforeAll(async () => {
    folder = await Deno.makeTempDir();
    const openssl = async (line: string) => {
      const { success, stderr } = await new Deno.Command("openssl", {
        args: line.split(" "),
        cwd: folder,
        stdout: "null",
        stderr: "piped",
      }).output();
      if (!success) throw new Error(new TextDecoder().decode(stderr));
    };
    const key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    await openssl(`req -x509 ${key} -keyout root.key -out root.pem -days 2 -subj /CN=Root`);
    await openssl(`req ${key} -keyout server.key -out server.csr -subj /CN=${NAME}`);
    await Deno.writeTextFile(`${folder}/san`, `subjectAltName=DNS:${NAME}\nbasicConstraints=CA:FALSE\n`);
    await openssl(
      "x509 -req -in server.csr -CA root.pem -CAkey root.key -CAcreateserial -out server.pem -days 2 -extfile san",
    );
    const read = (name: string) => Deno.readTextFile(`${folder}/${name}`);
    root = await read("root.pem");
    const secured = { cert: await read("server.pem"), key: await read("server.key") };
    server = Deno.serve({ hostname: "127.0.0.1", port: 0, ...secured, onListen: () => {} }, (request) => {
      expect(request.headers.get("host")).toBe(NAME);
      return new Response("PNG", { headers: { "content-type": "image/png" } });
    });
  });
  afterAll(async () => {
    await server?.shutdown();
    if (folder !== undefined) await Deno.remove(folder, { recursive: true });
  });

  /** The name has a public address when it is judged, and this machine's whenever it is asked for again. */
  async function rebound(url: string) {
    let lookedUp = 0;
    const asked: Endpoint[] = [];
    const fetched = await fetchPublic(url, {
      fetch: () => expect.unreachable("the name was looked up once more"),
      resolve: () => Promise.resolve(lookedUp++ === 0 ? [PUBLIC] : ["127.0.0.1"]),
      // What stands at the public address is played by a server of this machine; the name in its certificate is checked.
      connect: async (to) => {
        asked.push(to);
        const connection = await Deno.connect({ hostname: "127.0.0.1", port: server.addr.port });
        return await Deno.startTls(connection, { hostname: to.tlsName!, caCerts: [root] });
      },
      clock: systemClock,
      timeoutMs: 10_000,
      signal: new AbortController().signal,
      mayTake: () => true,
      accepts: () => true,
    });
    return { fetched, asked };
  }

  test("[security.links] is connected to where it was judged, and nowhere else", async () => {
    const { fetched, asked } = await rebound(`https://${NAME}/a.png`);
    expect(new TextDecoder().decode(fetched.bytes)).toBe("PNG");
    expect(asked).toEqual([{ address: PUBLIC, port: 443, tlsName: NAME }]);
  });

  test("must have a certificate for its name", async () => {
    await expect(rebound("https://elsewhere.example.com/a.png")).rejects.toThrow("could not be fetched");
  });
});
