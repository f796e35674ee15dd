import { describe, expect, test } from "vitest";
import { rpcTransport } from "../../../shared/database/transport/rpc_transport.ts";
import { SqlFailure } from "../../../shared/database/transport/transport.ts";

const forever = new AbortController().signal;

function transport(answer: (request: Request) => Response | Promise<Response>) {
  const fetch =
    ((input: string | URL, init?: RequestInit) =>
      Promise.resolve().then(() => answer(new Request(input, init)))) as typeof globalThis.fetch;
  return rpcTransport({ url: "http://project.test", secretKey: "sb_secret_for_tests_only", fetch });
}

describe("the REST transport", () => {
  test("posts named arguments with the secret key", async () => {
    let seen: unknown;
    const call = transport(async (request) => {
      seen = [request.method, request.url, request.headers.get("apikey"), await request.json()];
      return Response.json({ status: "settled" });
    });
    expect(await call("eve_settle", { request_no: 12 }, forever)).toEqual({ status: "settled" });
    expect(seen).toEqual([
      "POST",
      "http://project.test/rest/v1/rpc/eve_settle",
      "sb_secret_for_tests_only",
      { request_no: 12 },
    ]);
  });

  test("what the database raises keeps its errcode", async () => {
    const body = { code: "EV400", message: "models is empty", details: null, hint: null };
    const thrown = await transport(() => Response.json(body, { status: 400 }))("eve_reserve", {}, forever)
      .catch((error) => error);
    expect(thrown).toBeInstanceOf(SqlFailure);
    expect(thrown).toMatchObject({ sqlstate: "EV400", status: 400, message: "models is empty" });
  });

  test("a connection that fails is no SqlFailure, since no database spoke", async () => {
    const thrown = await transport(() => {
      throw new TypeError("connection refused");
    })("eve_reserve", {}, forever).catch((error) => error);
    expect(thrown).toBeInstanceOf(Error);
    expect(thrown).not.toBeInstanceOf(SqlFailure);
  });

  test("a signal ends the call", async () => {
    const hanging = transport((request) =>
      new Promise((_, reject) =>
        request.signal.addEventListener("abort", () => reject(request.signal.reason))
      )
    );
    await expect(hanging("eve_reserve", {}, AbortSignal.timeout(10))).rejects.toThrow();
  });
});
