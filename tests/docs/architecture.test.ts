/** The log lines and rows that docs/architecture.md shows have the fields of real ones. */
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestStack, type TestStack } from "../harness/stack.ts";
import { readPage } from "./pages.ts";

type Fields = Record<string, unknown>;

const { text } = readPage("docs/architecture.md");
const SHOWN = new Map(
  [...text.matchAll(/<!-- ((?:log|row):[^>]+) -->\s+```json\n([^]*?)```/g)].map(([, what, json]) =>
    [what!, JSON.parse(json!) as Fields] as const
  ),
);

let stack: TestStack;
let sql: postgres.Sql;
beforeAll(async () => {
  stack = await startTestStack();
  sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
});
afterAll(async () => {
  await sql?.end();
  await stack?.stop();
});

/** What is alike in every line and row of the kind: its fields, and of what type each is. */
const shape = (fields: Fields) =>
  Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, value === null ? "null" : typeof value]),
  );

/** The latest line of the log with a message about a request. */
function lineOf(message: string, requestId: string): Fields | undefined {
  return stack.printed.flatMap((line) => {
    const at = line.indexOf("{");
    return at < 0 ? [] : [JSON.parse(line.slice(at)) as Fields];
  }).findLast((line) => line.message === message && line.request_id === requestId);
}

const call = (model: string, requestId: string, extra: Fields = {}) =>
  stack.invoke("llm-invoke", { model, prompt: "Name three festivals.", request_id: requestId, ...extra }, {
    headers: { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" },
  });

const same = async (what: string, find: () => Fields | undefined | Promise<Fields | undefined>) => {
  await expect.poll(find).toBeDefined();
  expect(shape((await find())!), what).toEqual(shape(SHOWN.get(what)!));
};

test("all of them are looked at", () => {
  expect([...SHOWN.keys()]).toEqual([
    "log:request_ended succeeded",
    "log:request_ended failed",
    "log:attempt_failed",
    "row:requests",
    "row:refusals",
  ]);
});

test("a success", async () => {
  expect((await call("gemma-4-31b-it", "post-42")).status).toBe(200);
  await same("log:request_ended succeeded", () => lineOf("request_ended", "post-42"));
  await same("row:requests", async () => {
    const [row] =
      await sql`select row_to_json(r) as fields from eve.requests r where r.request_id = 'post-42'`;
    return row?.fields;
  });
});

test("an attempt that failed", async () => {
  await fetch(`${stack.emulatorUrl}/__control/faults`, {
    method: "POST",
    body: JSON.stringify([{ kind: "status", error: "overloaded", times: 1 }]),
  });
  expect((await call("gemma-4-31b-it", "post-43")).status).toBe(200);
  await same("log:attempt_failed", () => lineOf("attempt_failed", "post-43"));
});

test("a refusal", async () => {
  await sql`update public.google_ai_model_limits set rpm = 1 where model = 'gemini-2.5-flash'`;
  let refused = "";
  for (let n = 1; refused === ""; n++) {
    if ((await call("gemini-2.5-flash", `bot-${n}`, { mode: "no_wait" })).status === 429) {
      refused = `bot-${n}`;
    }
  }
  await same("log:request_ended failed", () => lineOf("request_ended", refused));
  const [row] =
    await sql`select row_to_json(r) as fields from eve.refusals r where r.request_id = ${refused}`;
  expect(shape(row!.fields)).toEqual(shape(SHOWN.get("row:refusals")!));
});
