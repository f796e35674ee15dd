/** Answers in chats, through the real stack: as an app, as a signed-in user with supabase-js, as a client that leaves. */
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { mintConsumerSecret } from "../../shared/tokens/consumer_secret.ts";
import { until } from "../harness/patience.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

let stack: TestStack;
let sql: postgres.Sql;
let upstream: Deno.HttpServer<Deno.NetAddr>;
/** What the model was asked, call by call: its turns as `role: text`. */
let asked: string[][] = [];
/** Where a streamed answer stops half-way; resolved from the beginning unless a test holds it up. */
let goOn: Promise<void> = Promise.resolve();
let fails = false;
let appKey = "";
const users: Record<string, { client: SupabaseClient; token: string; id: string }> = {};

interface Turn {
  role: string;
  parts: { text: string }[];
}

beforeAll(async () => {
  upstream = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const { contents, systemInstruction } = await request.json() as {
      contents: Turn[];
      systemInstruction?: Turn;
    };
    const said = (turn: Turn) => turn.parts.map(({ text }) => text).join("|");
    asked.push([
      ...(systemInstruction ? [`system: ${said(systemInstruction)}`] : []),
      ...contents.map((turn) => `${turn.role}: ${said(turn)}`),
    ]);
    if (fails) {
      return Response.json({ error: { code: 400, message: "no", status: "INVALID_ARGUMENT" } }, {
        status: 400,
      });
    }
    const last = said(contents.at(-1)!);
    const usageMetadata = { promptTokenCount: 7, candidatesTokenCount: 3, totalTokenCount: 10 };
    const chunk = (text: string, more: object = {}) => ({
      candidates: [{ content: { role: "model", parts: [{ text }] }, index: 0, ...more }],
    });
    if (!request.url.includes("streamGenerateContent")) {
      return Response.json({ ...chunk(`to ${last}`, { finishReason: "STOP" }), usageMetadata });
    }
    const frame = (data: object) => new TextEncoder().encode(`data: ${JSON.stringify(data)}\r\n\r\n`);
    return new Response(
      new ReadableStream<Uint8Array>({
        async start(controller) {
          controller.enqueue(frame(chunk("first half, ")));
          await goOn;
          try {
            controller.enqueue(frame({ ...chunk("second half", { finishReason: "STOP" }), usageMetadata }));
            controller.close();
          } catch { /* Nobody listens any more. */ }
        },
      }),
      { headers: { "content-type": "text/event-stream" } },
    );
  });
  stack = await startTestStack({
    googleApiBaseUrl: `http://127.0.0.1:${upstream.addr.port}`,
    env: { EVE_CHATS_CONSUMER: "app" },
  });
  sql = postgres(stack.databaseUrl, { max: 2, onnotice: () => {} });
  const secret = await mintConsumerSecret("service");
  appKey = secret.text;
  await sql`select public.eve_consumer_add('app', 'service', key_id => ${secret.keyId}, proof => ${secret.proof})`;
  await sql`select public.eve_consumer_access('app', '{llm,chats}')`;
  for (const name of ["ann", "bob"]) {
    const client = createClient(stack.url, stack.keys.publishable, { auth: { persistSession: false } });
    const { data, error } = await client.auth.signUp({
      email: `${name}@example.com`,
      password: "long enough 1",
    });
    if (error) throw error;
    users[name] = { client, token: data.session!.access_token, id: data.user!.id };
  }
});
afterAll(async () => {
  await sql?.end({ timeout: 5 });
  await stack?.stop();
  await upstream?.shutdown();
});
beforeEach(() => {
  asked = [];
  goOn = Promise.resolve();
  fails = false;
});

const MODEL = "gemma-4-31b-it";

// deno-lint-ignore no-explicit-any -- JSON whose fields the tests look at.
async function call(path: string, body: unknown, key = appKey, init: RequestInit = {}): Promise<any> {
  const response = await fetch(`${stack.url}/functions/v1/${path}`, {
    method: "POST",
    body: JSON.stringify(body),
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    ...init,
  });
  return { status: response.status, headers: response.headers, ...await response.json() };
}
const begun = async (key = appKey) => (await call("api/v1/chats", { title: "t" }, key)).id as string;
const ask = (chat_id: string, prompt: string, more: Record<string, unknown> = {}, key = appKey) =>
  call("llm-invoke", { model: MODEL, chat_id, prompt, ...more }, key);
/** What stands in a chat, when no answer is being written any more: it is stored behind the response. */
async function stored(chatId: string) {
  const rows = () =>
    sql`select role, content, state, usage, request_id from public.messages where chat_id = ${chatId} order by created_at`;
  await until(async () => (await rows()).every(({ state }) => state !== "pending"));
  return (await rows()).map(({ role, content, state }) =>
    `${role}: ${content}${state === "complete" ? "" : ` (${state})`}`
  );
}

describe("[native.chat] an answer in a chat", () => {
  test("has the history from the database; question and answer are stored with the call's id and usage", async () => {
    const chat = await begun();
    await call(`api/v1/chats/${chat}/messages`, { role: "system", content: "Be brief." });
    const first = await ask(chat, "one", { system: "Say please." });
    expect(first).toMatchObject({ status: 200, text: "to one", chat: { chat_id: chat } });
    await stored(chat);
    expect(await ask(chat, "two")).toMatchObject({ text: "to two" });
    expect(asked).toEqual([
      ["system: Say please.|Be brief.", "user: one"],
      ["system: Be brief.", "user: one", "model: to one", "user: two"],
    ]);
    expect(await stored(chat)).toEqual([
      "system: Be brief.",
      "user: one",
      "assistant: to one",
      "user: two",
      "assistant: to two",
    ]);
    const [row] = await sql`select request_id, usage from public.messages where id = ${first.chat.answer_id}`;
    expect(row).toEqual({
      request_id: first.request_id,
      usage: expect.objectContaining({ model: MODEL, input_tokens: 7, output_tokens: 3, total_tokens: 10 }),
    });
  });

  test("takes along as much of the history as is asked for", async () => {
    const chat = await begun();
    await ask(chat, "one");
    await stored(chat);
    await ask(chat, "two", { chat: { history_tokens: 0 } });
    expect(asked.at(-1)).toEqual(["user: two"]);
  });

  test("is one message and one call for the same client_id, whole or streamed", async () => {
    const chat = await begun();
    const once = { chat: { client_id: "c1" } };
    const first = await ask(chat, "one", once);
    await stored(chat);
    const again = await ask(chat, "one", once);
    expect(again).toMatchObject({
      text: "to one",
      request_id: first.request_id,
      chat: first.chat,
      usage: { input_tokens: 7 },
    });
    expect(again.headers.get("x-eve-replayed")).toBe("true");
    const stream = await fetch(`${stack.url}/functions/v1/llm-invoke`, {
      method: "POST",
      body: JSON.stringify({ model: MODEL, chat_id: chat, prompt: "one", stream: true, ...once }),
      headers: { authorization: `Bearer ${appKey}` },
    });
    expect(await stream.text()).toMatch(/^event: chat\n[^]*event: delta\n[^]*to one[^]*event: done\n/);
    expect(asked).toHaveLength(1);
    expect(await stored(chat)).toEqual(["user: one", "assistant: to one"]);
  });

  test("is one message for the same request_id", async () => {
    const chat = await begun();
    const request_id = crypto.randomUUID();
    await ask(chat, "one", { request_id });
    await stored(chat);
    expect(await ask(chat, "one", { request_id })).toMatchObject({ text: "to one", request_id });
    expect(await stored(chat)).toEqual(["user: one", "assistant: to one"]);
    // A job is nobody's conversation.
    expect(await ask(chat, "later", { mode: "queue" })).toMatchObject({ error: { code: "invalid_request" } });
  });

  test("that fails is kept as broken off, and asked again under the same client_id", async () => {
    const chat = await begun();
    fails = true;
    expect(await ask(chat, "one", { chat: { client_id: "c" } })).toMatchObject({ status: 400 });
    expect(await stored(chat)).toEqual(["user: one", "assistant:  (broken_off)"]);
    fails = false;
    expect(await ask(chat, "one", { chat: { client_id: "c" } })).toMatchObject({ text: "to one" });
    expect(await stored(chat)).toEqual(["user: one", "assistant:  (broken_off)", "assistant: to one"]);
  });

  test("is kept as far as it came when the client leaves in the middle", async () => {
    const chat = await begun();
    const held = Promise.withResolvers<void>();
    goOn = held.promise;
    const leaving = new AbortController();
    const response = await fetch(`${stack.url}/functions/v1/api/v1/chats/${chat}/answer`, {
      method: "POST",
      body: JSON.stringify({ model: MODEL, prompt: "tell", stream: true }),
      headers: { authorization: `Bearer ${appKey}`, "content-type": "application/json" },
      signal: leaving.signal,
    });
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let seen = "";
    while (!seen.includes("first half")) seen += (await reader.read()).value ?? "";
    expect(seen).toContain("event: chat\n");
    leaving.abort();
    await reader.closed.catch(() => {});
    expect(await stored(chat)).toEqual(["user: tell", "assistant: first half,  (broken_off)"]);
    held.resolve();
    // The conversation goes on from there.
    await ask(chat, "and then?");
    expect(asked.at(-1)).toEqual(["user: tell", "model: first half, ", "user: and then?"]);
  });

  test("is streamed whole, and stored whole", async () => {
    const chat = await begun();
    const response = await fetch(`${stack.url}/functions/v1/api/v1/chats/${chat}/answer`, {
      method: "POST",
      body: JSON.stringify({ model: MODEL, prompt: "tell", stream: true }),
      headers: { authorization: `Bearer ${appKey}`, "content-type": "application/json" },
    });
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    expect(await response.text()).toContain("event: done\n");
    expect(await stored(chat)).toEqual(["user: tell", "assistant: first half, second half"]);
  });

  test.each([
    ["a history of one's own", {
      messages: [{ role: "user", content: "a" }, { role: "assistant", content: "b" }],
    }],
    ["chat without chat_id", { prompt: "a", chat_id: undefined, chat: { client_id: "x" } }],
    ["a parent and an edit", {
      prompt: "a",
      chat: { parent_id: crypto.randomUUID(), edits: crypto.randomUUID() },
    }],
    ["another's name", { prompt: "a", chat: { owner: crypto.randomUUID() } }],
    ["a repair", { prompt: "a", schema_repair: true, response_schema: { type: "object" } }],
  ])("is refused in words for %s, and nothing is stored", async (_, body) => {
    const chat = await begun();
    expect(await call("llm-invoke", { model: MODEL, chat_id: chat, ...body })).toMatchObject({
      status: 400,
      error: { code: "invalid_request" },
    });
    expect(await stored(chat)).toEqual([]);
    expect(asked).toEqual([]);
  });
});

describe("a signed-in user", () => {
  test("asks in a chat made by supabase-js, is charged to the owner's consumer, and reads the answer there", async () => {
    const { client, token } = users.ann!;
    const { data: chat, error } = await client.from("chats").insert({ title: "Ann's" }).select().single();
    expect(error).toBeNull();
    const answer = await call(`api/v1/chats/${chat.id}/answer`, { model: MODEL, prompt: "hello" }, token);
    expect(answer).toMatchObject({ status: 200, text: "to hello" });
    await stored(chat.id);
    const { data: messages } = await client.from("messages").select("role, content").eq("chat_id", chat.id)
      .order("created_at");
    expect(messages).toEqual([{ role: "user", content: "hello" }, {
      role: "assistant",
      content: "to hello",
    }]);
    // A request is written down behind its response.
    const charged = () =>
      sql`select c.name from eve.requests r join eve.consumers c on c.id = r.consumer_id where r.request_id = ${answer.request_id}`;
    await expect.poll(async () => (await charged())[0]).toEqual({ name: "app" });
    const found = await client.from("messages").select("content").textSearch("search", "hello", {
      type: "websearch",
      config: "english",
    });
    expect(found.data).toHaveLength(2);
  });

  test("gets and gives nothing in another's chat", async () => {
    const { client, token } = users.ann!;
    const { data: chat } = await client.from("chats").insert({ title: "private" }).select().single();
    const bob = users.bob!;
    expect(await call(`api/v1/chats/${chat.id}/answer`, { model: MODEL, prompt: "x" }, bob.token))
      .toMatchObject({
        status: 404,
        error: { code: "chat_not_found" },
      });
    expect((await bob.client.from("chats").select().eq("id", chat.id)).data).toEqual([]);
    expect((await bob.client.from("messages").insert({ chat_id: chat.id, content: "x" })).error)
      .toMatchObject({
        code: "42501",
      });
    expect((await bob.client.from("chats").update({ title: "mine" }).eq("id", chat.id).select()).data)
      .toEqual([]);
    expect(await ask(chat.id, "x")).toMatchObject({ error: { code: "chat_not_found" } });
    // A session alone calls no models.
    expect(await call("llm-invoke", { model: MODEL, chat_id: chat.id, prompt: "x" }, token)).toMatchObject({
      status: 401,
    });
    expect(await stored(chat.id)).toEqual([]);
    expect(asked).toEqual([]);
  });
});
