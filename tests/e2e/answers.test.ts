/** What came with status 200 and is no answer, or not the one that was asked for, through every endpoint. */
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Answer, Part } from "../../shared/contract/content.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

const MODEL = "gemma-4-31b-it";
const usageMetadata = { promptTokenCount: 7, candidatesTokenCount: 3, totalTokenCount: 10 };
const SCHEMA = { type: "object", properties: { title: { type: "string" } }, required: ["title"] };

let stack: TestStack;
let sql: postgres.Sql;
let upstream: Deno.HttpServer<Deno.NetAddr>;
/** What upstream says, one by one. */
let script: Answer[] = [];

beforeAll(async () => {
  upstream = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    const said = JSON.stringify(script.shift() ?? { error: { code: 500, message: "asked too often" } });
    return request.url.includes(":streamGenerateContent")
      ? new Response(`data: ${said}\r\n\r\n`, { headers: { "content-type": "text/event-stream" } })
      : new Response(said, { headers: { "content-type": "application/json" } });
  });
  stack = await startTestStack({ googleApiBaseUrl: `http://127.0.0.1:${upstream.addr.port}` });
  sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
  // More calls than a minute has, and none of them is about that.
  await sql`update public.google_ai_model_limits set rpm = 300 where model = ${MODEL}`;
});
afterAll(async () => {
  await sql?.end({ timeout: 5 });
  await stack?.stop();
  await upstream?.shutdown();
});
beforeEach(() => {
  script = [];
});

const saying = (parts: Part[], finishReason = "STOP"): Answer => ({
  candidates: [{ content: { role: "model", parts }, finishReason, index: 0 }],
  usageMetadata,
});

/** How the last request ended in the books. */
async function booked(): Promise<{ state: string; error_code: string | null; attempts: number }> {
  const open = async () => (await sql`select count(*)::int as n from eve.inflight`)[0]!.n;
  await expect.poll(open, { interval: 20 }).toBe(0);
  const [row] =
    await sql`select state, error_code, attempts from eve.requests order by received_at desc limit 1`;
  return row as Awaited<ReturnType<typeof booked>>;
}

const contents = [{ role: "user", parts: [{ text: "Концерт в семь" }] }];
const messages = [{ role: "user", content: "Концерт в семь" }];
const native = (more: object = {}) =>
  stack.invoke("llm-invoke", { model: MODEL, prompt: "Концерт в семь", ...more });
const openai = (more: object = {}) =>
  stack.invoke("llm-invoke/openai/v1/chat/completions", { model: MODEL, messages, ...more });
const gemini = (more: object = {}, method = "generateContent") =>
  stack.invoke(`llm-invoke/v1beta/models/${MODEL}:${method}`, { contents, ...more });

const schemaFor = (strict: boolean) => ({
  native: { response_schema: SCHEMA },
  openai: {
    response_format: { type: "json_schema", json_schema: { name: "event", strict, schema: SCHEMA } },
  },
  gemini: { generationConfig: { responseMimeType: "application/json", responseJsonSchema: SCHEMA } },
});
const nothing = { native: {}, openai: {}, gemini: {} };

describe.each([
  {
    what: "a prompt that was blocked",
    answer: { promptFeedback: { blockReason: "SAFETY" }, usageMetadata },
    verdict: "content_blocked",
    native: 422,
    openai: "content_filter",
    gemini: 200,
  },
  {
    what: "an answer that was filtered",
    answer: { candidates: [{ finishReason: "SAFETY", index: 0 }], usageMetadata },
    verdict: "content_blocked",
    native: 422,
    openai: "content_filter",
    gemini: 200,
  },
  {
    what: "an empty answer",
    answer: saying([]),
    verdict: "empty_answer",
    native: 502,
    openai: 502,
    gemini: 502,
  },
  {
    what: "thoughts and nothing else",
    answer: saying([{ text: "Let me think", thought: true }]),
    verdict: "empty_answer",
    native: 502,
    openai: 502,
    gemini: 502,
  },
  {
    what: "nothing but thoughts up to the length limit",
    answer: saying([{ text: "Let me", thought: true }], "MAX_TOKENS"),
    verdict: "empty_answer",
    native: 502,
    openai: "length",
    gemini: 200,
  },
  {
    what: "a tool call that broke",
    answer: saying([], "MALFORMED_FUNCTION_CALL"),
    verdict: "answer_unusable",
    native: 502,
    openai: 502,
    gemini: 200,
  },
  {
    what: "JSON that was cut off",
    answer: saying([{ text: '{"title": "Конц' }], "MAX_TOKENS"),
    asked: schemaFor(false),
    verdict: "answer_truncated",
    native: 502,
    openai: "length",
    gemini: 200,
  },
  {
    what: "JSON that breaks its schema",
    answer: saying([{ text: '{"name": "Концерт"}' }]),
    asked: schemaFor(false),
    verdict: "schema_mismatch",
    native: 502,
    openai: "stop",
    gemini: 200,
  },
])("$what", ({ answer, asked = nothing, verdict, ...expected }) => {
  test("[native.schema native.blocks] native: an error that says why", async () => {
    script = [answer];
    const response = await native(asked.native);
    const { error } = await response.json();
    expect([response.status, error.code]).toEqual([expected.native, verdict]);
    expect(error.details.reason).toEqual(expect.stringMatching(/./));
    expect(await booked()).toMatchObject({ state: "failed", error_code: verdict, attempts: 1 });
  });

  test("OpenAI: a finish reason where it has one, else an error", async () => {
    script = [answer];
    const response = await openai(asked.openai);
    const body = await response.json();
    if (typeof expected.openai === "string") {
      expect(response.status).toBe(200);
      expect(body.choices[0].finish_reason).toBe(expected.openai);
    } else {
      expect([response.status, body.error.code]).toEqual([expected.openai, verdict]);
    }
    expect(await booked()).toMatchObject({ state: "failed", error_code: verdict });
  });

  test("Gemini: the model's own body, the verdict in a header, an error where the body would tell nothing", async () => {
    script = [answer];
    const response = await gemini(asked.gemini);
    const body = await response.json();
    expect(response.status).toBe(expected.gemini);
    if (response.status === 200) {
      expect(body).toEqual(answer);
      expect(response.headers.get("x-eve-verdict")).toBe(verdict);
    } else expect(body.error.status).toEqual(expect.stringMatching(/^[A-Z_]+$/));
    expect(await booked()).toMatchObject({ state: "failed", error_code: verdict });
  });

  test("[native.blocks] as a stream: the same, in each endpoint's form", async () => {
    script = [answer, answer, answer];
    const one = await (await native({ ...asked.native, stream: true })).text();
    expect(one).toMatch(new RegExp(`event: error\ndata: .*"${verdict}"`));
    expect(one).not.toContain("event: done");
    expect(await booked()).toMatchObject({ state: "failed", error_code: verdict });

    const two = await (await openai({ ...asked.openai, stream: true })).text();
    if (typeof expected.openai === "string") {
      expect(two).toContain(`"finish_reason":"${expected.openai}"`);
      expect(two.trimEnd().endsWith("data: [DONE]")).toBe(true);
    } else {
      expect(two).toContain(`"code":"${verdict}"`);
      expect(two).not.toContain("[DONE]");
    }

    const three = await (await gemini(asked.gemini, "streamGenerateContent?alt=sse")).text();
    const frames = three.trim().split("\r\n\r\n").map((frame) => JSON.parse(frame.slice("data: ".length)));
    if (expected.gemini === 200) expect(frames).toEqual([answer]);
    else expect(frames.at(-1).error).toMatchObject({ code: expected.gemini });
    expect(await booked()).toMatchObject({ state: "failed", error_code: verdict });
  });
});

describe("an answer that breaks its schema, with a repair asked for", () => {
  const broken = saying([{ text: '{"name": "Концерт"}' }]);
  const right = saying([{ text: '{"title": "Концерт"}' }]);

  test.each<[string, () => Promise<Response>]>([
    ["native", () => native({ ...schemaFor(true).native, schema_repair: true })],
    ["OpenAI, where strict asks for it,", () => openai(schemaFor(true).openai)],
  ])("[native.schema-repair] %s: comes back right, from a second attempt", async (_, ask) => {
    script = [broken, right];
    const response = await ask();
    expect(response.status).toBe(200);
    expect(JSON.stringify(await response.json())).toContain("title");
    expect(await booked()).toMatchObject({ state: "succeeded", attempts: 2 });
  });

  test("[native.schema-repair] that does not help: an error after the second attempt", async () => {
    script = [broken, broken, right];
    const response = await openai(schemaFor(true).openai);
    expect([response.status, (await response.json()).error.code]).toEqual([502, "schema_mismatch"]);
    expect(await booked()).toMatchObject({ state: "failed", error_code: "schema_mismatch", attempts: 2 });
  });
});

describe("prompts and answers", () => {
  const kept = () => sql`select prompt, answer from eve.captures`;
  const good = saying([{ text: "Хорошо" }]);

  test.each<[string, (capture: boolean | undefined) => Promise<Response>]>([
    ["native", (capture) => native({ capture })],
    ["OpenAI", (capture) => asked("openai/v1/chat/completions", { model: MODEL, messages }, capture)],
    ["Gemini", (capture) => asked(`v1beta/models/${MODEL}:generateContent`, { contents }, capture)],
  ])(
    "[native.capture] %s: are kept where the caller's row allows it and the request does not say no",
    async (_, ask) => {
      script = [good, good, good];
      await sql`delete from eve.captures`;
      await sql`update eve.consumers set capture = false where kind = 'project'`;
      await (await ask(true)).body?.cancel();
      await booked();
      await sql`update eve.consumers set capture = true where kind = 'project'`;
      await (await ask(false)).body?.cancel();
      await booked();
      const last = await ask(undefined);
      expect([last.status, last.status === 200 ? "" : await last.clone().text()]).toEqual([200, ""]);
      await last.body?.cancel();
      // It is kept after the books are closed.
      await expect.poll(kept).not.toEqual([]);
      const [one, ...more] = await kept();
      expect(more).toEqual([]);
      expect(JSON.stringify(one)).toContain("Концерт в семь");
      expect(JSON.stringify(one)).toContain("Хорошо");
    },
  );

  const asked = (path: string, body: object, capture: boolean | undefined) =>
    stack.invoke(`llm-invoke/${path}`, body, {
      headers: capture === undefined ? {} : { "x-eve-capture": String(capture) },
    });
});
