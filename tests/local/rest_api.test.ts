/** `/rest/v1` of the local stack answers function calls as PostgREST does. */
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestStack, type TestStack } from "../harness/stack.ts";

let stack: TestStack;

beforeAll(async () => {
  stack = await startTestStack();
});

afterAll(() => stack?.stop());

async function rpc(sqlFunction: string, args: unknown): Promise<{ status: number; body: unknown }> {
  const response = await fetch(`${stack.url}/rest/v1/rpc/${sqlFunction}`, {
    method: "POST",
    headers: { "apikey": stack.keys.secret, "content-type": "application/json" },
    body: JSON.stringify(args),
  });
  return { status: response.status, body: await response.json() };
}

test("an object given as jsonb arrives as an object", async () => {
  const metadata = { city: "Калининград", list: [1, "two", null], quote: '"' };
  const granted = await rpc("eve_reserve", {
    request_id: "an object",
    models: ["gemma-4-31b-it"],
    tokens: 1,
    metadata,
  });
  expect(granted).toMatchObject({ status: 200, body: { status: "granted" } });
  const sql = postgres(stack.databaseUrl, { max: 1 });
  const rows = await sql`select metadata from eve.inflight where request_id = 'an object'`;
  await sql.end();
  expect(rows).toEqual([{ metadata }]);
});

test("an errcode of our own comes through, with status 400", async () => {
  const unknown = await rpc("eve_settle", { request_no: 999_999, attempt: 1, outcome: "failed" });
  expect(unknown).toEqual({
    status: 400,
    body: { code: "EV404", message: "no reservation 999999 attempt 1", details: null, hint: null },
  });
});

test("a request_id asked again gets the same answer", async () => {
  const body = { model: "gemma-4-31b-it", prompt: "Say hello.", request_id: "twice" };
  const first = await stack.invoke("llm-invoke", body);
  const answer = await first.json();
  // Settled after the response has gone: until then the id is running.
  await expect.poll(async () => {
    const again = await stack.invoke("llm-invoke", body);
    return { status: again.status, replayed: again.headers.get("x-eve-replayed"), body: await again.json() };
  }).toEqual({ status: 200, replayed: "true", body: { ...answer, limits: null } });
});
