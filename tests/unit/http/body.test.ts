import { describe, expect, test } from "vitest";
import { systemClock } from "../../../shared/runtime/clock.ts";
import { readBody } from "../../../shared/http/body.ts";

const limits = { maxBytes: 10, timeoutMs: 1_000, clock: systemClock };

function chunked(chunks: string[], headers: Record<string, string> = {}, onCancel = () => {}): Request {
  const encoder = new TextEncoder();
  const left = [...chunks];
  const body = new ReadableStream({
    pull(controller) {
      const next = left.shift();
      if (next === undefined) controller.close();
      else controller.enqueue(encoder.encode(next));
    },
    cancel: onCancel,
  });
  return new Request("http://gateway/", { method: "POST", body, headers });
}

const read = async (request: Request) => new TextDecoder().decode(await readBody(request, limits));

describe("readBody", () => {
  test("reads a body up to the cap, in one piece or in many", async () => {
    expect(await read(new Request("http://gateway/", { method: "POST", body: "0123456789" }))).toBe(
      "0123456789",
    );
    expect(await read(chunked(["01234", "", "56789"]))).toBe("0123456789");
  });

  test("no body is an empty one", async () => {
    expect(await read(new Request("http://gateway/", { method: "POST" }))).toBe("");
  });

  test("one byte more is refused, and the rest is not fetched", async () => {
    let cancelled = false;
    const request = chunked(["01234", "567890", "never read"], {}, () => cancelled = true);
    await expect(readBody(request, limits)).rejects.toMatchObject({ code: "body_too_large", status: 413 });
    expect(cancelled).toBe(true);
  });

  test("a content-length that lies does not help", async () => {
    const request = chunked(["0123456789", "0"], { "content-length": "3" });
    await expect(readBody(request, limits)).rejects.toMatchObject({ code: "body_too_large" });
  });

  test("a content-length above the cap is refused without reading", async () => {
    let pulled = false;
    const body = new ReadableStream({ pull: () => void (pulled = true) }, { highWaterMark: 0 });
    const request = new Request("http://gateway/", {
      method: "POST",
      body,
      headers: { "content-length": "11" },
    });
    await expect(readBody(request, limits)).rejects.toMatchObject({ code: "body_too_large" });
    expect(pulled).toBe(false);
  });

  test("over the wire, a length beside a transfer coding is not believed", async () => {
    await using server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      async (request) => {
        const answer = await readBody(request, limits).then((body) => body.length, (error) => error.code);
        return new Response(String(answer));
      },
    );
    const send = async (...lines: string[]) => {
      using connection = await Deno.connect({ hostname: "127.0.0.1", port: server.addr.port });
      const head = ["POST / HTTP/1.1", "Host: gateway", "Connection: close"];
      await connection.write(new TextEncoder().encode([...head, ...lines].join("\r\n")));
      return (await new Response(connection.readable).text());
    };
    expect(await send("Content-Length: 3", "", "abc")).toMatch(/\r\n\r\n3$/);
    const long = ["", "14", "0123456789abcdefghij", "0", "", ""];
    const both = await send("Content-Length: 3", "Transfer-Encoding: chunked", ...long);
    // Refusing such a request altogether, as RFC 9112 (6.1) allows, is as good.
    expect(both).toMatch(/body_too_large|^HTTP\/1.1 400/);
    expect(await send("Transfer-Encoding: chunked", ...long)).toMatch(/body_too_large/);
  });

  test("a body that never ends arriving is given up", async () => {
    const body = new ReadableStream({ pull: () => new Promise<void>(() => {}) });
    const request = new Request("http://gateway/", { method: "POST", body });
    await expect(readBody(request, { ...limits, timeoutMs: 20 })).rejects.toMatchObject({
      code: "body_timeout",
      status: 408,
    });
  });

  test("room is asked for before anything is read where the length is known, and piece by piece where it is not", async () => {
    const large = "x".repeat(300_000);
    const reported: (number | string)[] = [];
    const watched = {
      ...limits,
      maxBytes: 1_000_000,
      onBytes: (count: number) => void reported.push(count),
      onPiece: (piece: Uint8Array) => void reported.push(`piece of ${piece.length}`),
    };
    const pieces = [large.slice(0, 100_000), large.slice(100_000)];
    const known = await readBody(chunked(pieces, { "content-length": "300000" }), watched);
    expect(new TextDecoder().decode(known)).toBe(large);
    expect(reported).toEqual([300_000, "piece of 100000", "piece of 200000"]);
    reported.length = 0;
    const unknown = await readBody(chunked(pieces), watched);
    expect(new TextDecoder().decode(unknown)).toBe(large);
    expect(reported).toEqual([100_000, "piece of 100000", 200_000, "piece of 200000"]);
    reported.length = 0;
    await readBody(
      new Request("http://gateway/", { method: "POST", body: "small", headers: { "content-length": "5" } }),
      watched,
    );
    expect(reported).toEqual([5, "piece of 5"]);
  });

  test("a check that sees too much in the first piece ends the reading there", async () => {
    let cancelled = false;
    const request = chunked(
      ["x".repeat(300_000), "never read"],
      { "content-length": "300010" },
      () => cancelled = true,
    );
    const onPiece = () => {
      throw new Error("seen");
    };
    await expect(readBody(request, { ...limits, maxBytes: 1_000_000, onPiece })).rejects.toThrow("seen");
    expect(cancelled).toBe(true);
  });

  test.each([299_999, 300_001])("a large length that lies (%i for 300,000) does no harm", async (claimed) => {
    const request = chunked(["x".repeat(300_000)], { "content-length": String(claimed) });
    const read = readBody(request, { ...limits, maxBytes: 1_000_000 });
    if (claimed < 300_000) await expect(read).rejects.toMatchObject({ code: "body_too_large" });
    else expect((await read).length).toBe(300_000);
  });
});
