/** Texts that repeat themselves, in every field that is looked at with an expression: none of them holds the function up. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Actors, MODEL, startWithActors } from "./actors.ts";

/** Each takes milliseconds. What takes the square of its length is at it for hours. */
const HANGS_AFTER_MS = 300_000;
const LENGTH = 600_000;

let all: Actors;
beforeAll(async () => {
  all = await startWithActors();
});
afterAll(() => all?.stop());

const long = (unit: string, end = "!") => unit.repeat(LENGTH / unit.length) + end;
const user = (content: unknown) => ({ role: "user", content });
const call = (id: string) => ({ id, type: "function", function: { name: "f", arguments: "{}" } });
const picture = (data: string) => ({
  type: "image",
  source: { type: "base64", media_type: "image/png", data },
});

/** By what is repeated: the address, and the body. */
const TEXTS: Record<string, [path: string, body: Record<string, unknown>]> = {
  "blanks in a picture, at Anthropic's endpoint": ["/anthropic/v1/messages", {
    max_tokens: 9,
    messages: [user([picture(long(" "))])],
  }],
  "signatures in the id of a tool call, at OpenAI's": ["/openai/v1/chat/completions", {
    messages: [
      user("?"),
      { role: "assistant", tool_calls: [call(`call_${long("__sig__a")}`)] },
      { role: "tool", tool_call_id: `call_${long("__sig__a")}`, content: "1" },
    ],
  }],
  "signatures in the id of a tool call, at Anthropic's": ["/anthropic/v1/messages", {
    max_tokens: 9,
    messages: [
      user("?"),
      {
        role: "assistant",
        content: [{ type: "tool_use", id: `toolu_${long("__sig__a")}`, name: "f", input: {} }],
      },
      user([{ type: "tool_result", tool_use_id: `toolu_${long("__sig__a")}`, content: "1" }]),
    ],
  }],
  "parameters of a picture's data": ["/openai/v1/chat/completions", {
    messages: [user([{ type: "image_url", image_url: { url: `data:image/png${long(";a=")},AAAA` } }])],
  }],
  "a picture's data": ["/openai/v1/chat/completions", {
    messages: [user([{ type: "image_url", image_url: { url: `data:image/png;base64,${long("=")}` } }])],
  }],
  "slashes of a link": ["/openai/v1/chat/completions", {
    messages: [user([{ type: "image_url", image_url: { url: `https://${long("/")}` } }])],
  }],
  "brackets in what is asked": ["", { prompt: long("[](") }],
  "blanks in what is asked": ["", { prompt: long(" ", "") }],
  "a name of an answer's schema": ["", {
    prompt: "?",
    response_schema: { type: "string", title: long("a-") },
  }],
  "a pattern of an answer's schema": ["", {
    prompt: "?",
    response_schema: { type: "string", pattern: long("(a*)*") },
  }],
  "a reference of an answer's schema": ["", { prompt: "?", response_schema: { $ref: `#${long("/~0")}` } }],
  "a model's name": ["/openai/v1/chat/completions", { model: long("models/"), messages: [user("?")] }],
  "a request's id": ["", { prompt: "?", request_id: long("-") }],
  "a word to stop at": ["/openai/v1/chat/completions", { messages: [user("?")], stop: [long("a ")] }],
};

test.each(Object.entries(TEXTS))(
  "[security.bodies] %s: answered, or refused, at once",
  async (_, [path, body]) => {
    const response = await fetch(`${all.stack.url}/functions/v1/llm-invoke${path}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...all.headers["notebook token"] },
      body: JSON.stringify({ model: MODEL, ...body }),
    });
    await response.body?.cancel();
    expect([200, 400, 403, 404, 413, 429]).toContain(response.status);
  },
  HANGS_AFTER_MS,
);

test("and after all of it others are answered", async () => {
  const response = await fetch(`${all.stack.url}/functions/v1/llm-invoke`, {
    method: "POST",
    headers: { "content-type": "application/json", apikey: all.secrets.other! },
    body: JSON.stringify({ model: MODEL, prompt: "Hello" }),
  });
  expect(await response.json()).toMatchObject({ text: expect.any(String) });
});
