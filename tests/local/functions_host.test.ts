/** What a client notices of the functions host: it passes everything on, and functions may do no more than hosted ones. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ReverseProxy, startReverseProxy } from "../../local/reverse_proxy.ts";
import { functionProcesses } from "../../local/functions_host.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { freePorts } from "../harness/ports.ts";
import type { SupervisedProcess } from "../../local/supervised_process.ts";
import { makeTestFolder, type TestFolder } from "../harness/folders.ts";

const logged: string[] = [];
const printed: string[] = [];
let folder: TestFolder;
let functions: Map<string, SupervisedProcess>;
let origin: ReverseProxy;
let base: string;

const log = (line: string) => void logged.push(line);

/** The functions, not started yet, and a reverse proxy in front of them. */
async function host() {
  const functions = await functionProcesses({
    functionsDir: `${CHECKOUT}/tests/local/functions`,
    denoConfig: `${CHECKOUT}/deno.json`,
    entriesDir: folder.path,
    env: { GOOGLE_API_KEY_DEMO_A: "demo-key-a" },
    output: (name, line) => printed.push(`[${name}] ${line}`),
    log,
  });
  const [port] = freePorts(1);
  const origin = startReverseProxy({ port: port!, functions, api: () => new Response("api"), log });
  return { functions, origin, base: `http://127.0.0.1:${port}/functions/v1` };
}

beforeAll(async () => {
  folder = await makeTestFolder();
  ({ functions, origin, base } = await host());
  await Promise.all([...functions.values()].map((process) => process.start()));
});

afterAll(async () => {
  await Promise.all([...functions.values()].map((process) => process.stop()));
  await origin.shutdown();
  await folder.remove();
});

describe("a request", () => {
  test("arrives as it was sent, without the platform's prefix", async () => {
    const response = await fetch(`${base}/echo/request?a=1&b=%20x`, {
      method: "PUT",
      headers: { "x-custom": "yes", "authorization": "Bearer t", "content-type": "text/plain" },
      body: "привет",
    });
    const seen = await response.json();
    expect(response.status).toBe(201);
    expect(response.headers.get("x-made-by")).toBe("echo");
    expect(seen).toMatchObject({
      method: "PUT",
      path: "/echo/request",
      query: "?a=1&b=%20x",
      body: "привет",
    });
    expect(seen.headers).toMatchObject({
      "x-custom": "yes",
      "authorization": "Bearer t",
      "content-type": "text/plain",
      "x-forwarded-for": "127.0.0.1",
    });
  });

  test("is streamed, not collected: the answer begins before the question has ended", async () => {
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const writer = writable.getWriter();
    const answer = fetch(`${base}/echo/upload`, { method: "POST", body: readable });
    await writer.write(new TextEncoder().encode("one "));
    const reader = (await answer).body!.pipeThrough(new TextDecoderStream()).getReader();
    expect((await reader.read()).value).toBe("ONE ");
    await writer.write(new TextEncoder().encode("two"));
    expect((await reader.read()).value).toBe("TWO");
    await writer.close();
    expect((await reader.read()).done).toBe(true);
  });

  test("gets a redirect back untouched", async () => {
    const response = await fetch(`${base}/echo`, { redirect: "manual" });
    await response.body?.cancel();
    expect([response.status, response.headers.get("location")]).toEqual([307, "/elsewhere"]);
  });

  test("to a function that throws gets a fixed answer", async () => {
    const response = await fetch(`${base}/echo/throw`);
    expect(response.status).toBe(500);
    expect(await response.json()).toMatchObject({ code: "worker_error" });
    expect(printed.join("\n")).toContain("on purpose");
  });

  test("to a function that does not exist gets 404 in JSON", async () => {
    const response = await fetch(`${base}/nothing/here`);
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ code: "not_found" });
  });
});

describe("a client that goes away", () => {
  test("while it waits: the function's signal fires at once", async () => {
    const leaving = new AbortController();
    const answer = fetch(`${base}/echo/hang?mark=waiting`, { signal: leaving.signal });
    await until("running", "waiting");
    leaving.abort();
    await expect(answer).rejects.toThrow();
    await until("aborted", "waiting");
  });

  test.skipIf(Deno.build.os !== "linux").each([[100], [100_000]])(
    "while it waits, with a body of %i bytes that did not come with the head",
    async (bytes) => {
      const mark = `apart${bytes}`;
      const { hostname, port } = new URL(base);
      const connection = await Deno.connect({ hostname, port: Number(port) });
      const send = async (text: string) => {
        const writer = connection.writable.getWriter();
        await writer.write(new TextEncoder().encode(text));
        writer.releaseLock();
      };
      await send(
        `POST /functions/v1/echo/hang?mark=${mark} HTTP/1.1\r\nhost: eve\r\ncontent-length: ${bytes}\r\n\r\n`,
      );
      await new Promise((resolve) => setTimeout(resolve, 50));
      await send("x".repeat(bytes));
      await until("running", mark);
      connection.close();
      await until("aborted", mark);
    },
  );

  test("in the middle of a stream: the function's stream is cancelled", async () => {
    const leaving = new AbortController();
    const response = await fetch(`${base}/echo/stream?mark=listening`, { signal: leaving.signal });
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    expect((await reader.read()).value).toBe("data: 0\n\n");
    leaving.abort();
    await until("cancelled", "listening");
    await reader.cancel().catch(() => {});
  });
});

describe("a function", () => {
  test("may use the network and its own environment, and nothing else", async () => {
    const { outcomes, environment } = await (await fetch(`${base}/nosy`)).json();
    expect(new Set(Object.values(outcomes)), JSON.stringify(outcomes)).toEqual(new Set(["refused"]));
    expect(environment).toEqual({ GOOGLE_API_KEY_DEMO_A: "demo-key-a" });
  });

  test("that does not load is down, and the log says why", async () => {
    const response = await fetch(`${base}/broken`);
    expect(response.status).toBe(503);
    expect(response.headers.get("retry-after")).toBe("1");
    expect(await response.json()).toMatchObject({ code: "worker_unavailable" });
    expect(printed.join("\n")).toContain("broken on purpose");
    expect(logged.join("\n")).toMatch(/function broken ended with code 1; starting it again in 100 ms/);
  });

  test("that is killed fails the requests it had, and is back by itself", async () => {
    const echo = functions.get("echo")!;
    const before = echo.pid;
    const caught = fetch(`${base}/echo/hang?mark=killed`);
    await until("running", "killed");
    echo.kill("SIGKILL");
    const response = await caught;
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({ code: "worker_unavailable" });
    await echo.listening();
    expect(echo.pid).not.toBe(before);
    expect((await fetch(`${base}/echo/request`)).status).toBe(201);
    expect(logged.join("\n")).toMatch(/function echo was ended by SIGKILL/);
  });

  test("that nobody has started starts at its first request, and all who come meanwhile wait for it", async () => {
    const late = await host();
    const echo = late.functions.get("echo")!;
    try {
      const answers = await Promise.all([1, 2, 3].map(() => fetch(`${late.base}/echo/request`)));
      expect(answers.map(({ status }) => status)).toEqual([201, 201, 201]);
      await Promise.all(answers.map(({ body }) => body?.cancel()));
      expect(echo.restarts).toBe(0);
    } finally {
      await echo.stop();
      await late.origin.shutdown();
    }
  });

  test("finishes its background work when it is asked to end", async () => {
    let requests = 0;
    const begun = Promise.withResolvers<void>();
    const mayGoOn = Promise.withResolvers<void>();
    const listener = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async () => {
      requests++;
      begun.resolve();
      await mayGoOn.promise;
      return new Response();
    });
    const tell = encodeURIComponent(`http://127.0.0.1:${listener.addr.port}`);
    expect(await (await fetch(`${base}/echo/later?tell=${tell}`)).text()).toBe("soon");
    await begun.promise;
    const restarted = functions.get("echo")!.restart();
    mayGoOn.resolve();
    await restarted;
    expect(requests).toBe(2);
    await listener.shutdown();
  });
});

/** Polls what the echo function noted about a request. */
async function until(state: string, mark: string): Promise<void> {
  await expect.poll(async () => (await (await fetch(`${base}/echo/seen`)).json())[mark], {
    interval: 20,
  })
    .toBe(state);
}
