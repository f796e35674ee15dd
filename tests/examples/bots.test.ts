/** The bots of examples/, run as programs with the key of a service. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import postgres from "postgres";
import { startTestStack, type TestStack } from "../harness/stack.ts";
import { pythonThat, run, runEve } from "./example_stack.ts";

const POST = "18 июля 2026 в 12:00 на острове Канта — фестиваль «Балтийский берег». Вход 500 ₽.";
const PYTHON = pythonThat("import sys; assert sys.version_info >= (3, 10)");
const DENO = ["run", "-A", "--cached-only", "examples/bot.ts"];

let stack: TestStack;
let sql: postgres.Sql;
let secret: string;
/** Stands before the stack and notes the headers of what comes. */
let front: Deno.HttpServer<Deno.NetAddr>;
const seen: Headers[] = [];

beforeAll(async () => {
  stack = await startTestStack({ emulator: { latencyMs: 5 } });
  sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
  ({ secret } = await runEve(
    stack,
    "consumers",
    "add",
    "my-bot",
    "--kind",
    "service",
    "--class",
    "interactive",
  ));
  front = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
    seen.push(request.headers);
    const { pathname, search } = new URL(request.url);
    return fetch(`${stack.url}${pathname}${search}`, request);
  });
});
afterAll(async () => {
  await front?.shutdown();
  await sql?.end({ timeout: 5 });
  await stack?.stop();
});

const env = (key = secret) => ({
  EVE_GATEWAY_URL: `http://127.0.0.1:${front.addr.port}`,
  EVE_GATEWAY_SECRET: key,
});
const MISTYPED = () => secret.replace(/.$/, (last) => last === "0" ? "1" : "0");

describe.skipIf(PYTHON === undefined)("bot.py", () => {
  test("parses an event, as an interactive call of its consumer", async () => {
    const { code, said, complained } = await run(PYTHON!, ["examples/bot.py", POST], env());
    expect(code, complained).toBe(0);
    expect(JSON.parse(said)).toMatchObject({
      date: expect.stringMatching(/^2026-07-18/),
      title: expect.stringContaining("Балтийский"),
    });
    await expect.poll(lastCaller).toEqual({ name: "my-bot", class: "interactive" });
  });

  test("says what is wrong, and no secret", async () => {
    const { code, said, complained } = await run(PYTHON!, ["examples/bot.py", POST], env(MISTYPED()));
    expect([code, said]).toEqual([1, ""]);
    expect(complained).toMatch(/\[credential_invalid\]/);
    expect(complained).not.toContain("eve_service_");
  });
});

describe("bot.ts", () => {
  test("parses an event beside the database, as an interactive call of its consumer", async () => {
    seen.length = 0;
    const { code, said, complained } = await run(Deno.execPath(), [...DENO, POST], env());
    expect(code, complained).toBe(0);
    expect(JSON.parse(said)).toMatchObject({
      date: expect.stringMatching(/^2026-07-18/),
      title: expect.stringContaining("Балтийский"),
    });
    expect(seen.map((headers) => headers.get("x-region"))).toEqual(["eu-central-1"]);
    await expect.poll(lastCaller).toEqual({ name: "my-bot", class: "interactive" });
  });

  test("says what is wrong, and no secret", async () => {
    const { code, said, complained } = await run(Deno.execPath(), [...DENO, POST], env(MISTYPED()));
    expect([code, said]).toEqual([1, ""]);
    expect(complained).toMatch(/credential_invalid/);
    expect(complained).not.toContain("eve_service_");
  });
});

/** It is settled after it was answered: ask until it is there. */
async function lastCaller() {
  const [row] = await sql`
    select c.name, r.class from eve.requests r join eve.consumers c on c.id = r.consumer_id
    order by r.request_no desc limit 1`;
  return { ...row };
}
