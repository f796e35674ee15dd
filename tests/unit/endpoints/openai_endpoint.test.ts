import { describe, expect, test } from "vitest";
import type { EmbedRequest } from "../../../shared/contract/embedding.ts";
import type { ModelInfo } from "../../../shared/contract/model_info.ts";
import { ID, RESULT } from "./router_fixture.ts";
import { testOpenai } from "./openai_fixture.ts";

describe("what the gateway is asked", () => {
  test("[openai.metadata] unless the client says otherwise: to wait as long as it may", async () => {
    const { chat, asked } = testOpenai({
      invoke: (request) => {
        asked.push(request);
        return Promise.resolve(RESULT);
      },
    });
    await chat({ user: "u1", safety_identifier: "s1", metadata: { a: "b" }, model: "models/gemma-4-31b-it" });
    expect(asked).toEqual([{
      id: ID,
      idIsClients: false,
      endpoint: "openai",
      models: ["gemma-4-31b-it"],
      excludeKeys: [],
      stage: null,
      prompt: { contents: [{ role: "user", parts: [{ text: "?" }] }] },
      class: "interactive",
      maxWaitMs: 100_000,
      metadata: { a: "b", user: "u1", safety_identifier: "s1" },
      traceId: null,
      capture: null,
      schemaRepair: false,
    }]);
  });

  test("with the options in the headers, and under the client's id, errors too", async () => {
    const { chat, asked } = testOpenai({
      invoke: (request) => {
        asked.push(request);
        return Promise.resolve(RESULT);
      },
    });
    const headers = { "x-eve-mode": "no_wait", "x-eve-class": "batch", "x-eve-request-id": "event-42" };
    await chat({}, headers);
    expect(asked).toEqual([
      expect.objectContaining({ id: "event-42", idIsClients: true, class: "batch", maxWaitMs: 0 }),
    ]);
    expect((await chat({ logprobs: true }, headers)).headers.get("x-request-id")).toBe("event-42");
    const wrong = await chat({}, { "x-eve-class": "urgent" });
    expect((await wrong.json()).error.param).toBe("x-eve-class");
  });

  test("[openai.ignored] fields that an answer does without are named in a header that pages may read", async () => {
    const { chat } = testOpenai({ invoke: () => Promise.resolve(RESULT) });
    const { headers, status } = await chat({ verbosity: "low", new_field: 1 });
    expect([status, headers.get("x-eve-ignored")]).toEqual([200, "verbosity, new_field"]);
    expect(headers.get("access-control-expose-headers")).toContain("x-eve-ignored");
    const strict = await testOpenai({}, undefined, { strictFields: true }).chat({ verbosity: "low" });
    expect([strict.status, (await strict.json()).error.param]).toEqual([400, "verbosity"]);
  });

  test("a strict schema asks for one repair", async () => {
    const { chat, asked } = testOpenai({
      invoke: (request) => {
        asked.push(request);
        return Promise.resolve(RESULT);
      },
    });
    const json_schema = { name: "s", strict: true, schema: { type: "object" } };
    await chat({ response_format: { type: "json_schema", json_schema } });
    expect(asked[0]?.schemaRepair).toBe(true);
  });
});

describe("pictures behind links", () => {
  const message = (url: string) => [{ role: "user", content: [{ type: "image_url", image_url: { url } }] }];
  const png = () => new Response(new Uint8Array([1, 2, 3]), { headers: { "content-type": "image/png" } });

  test("[openai.image-links] are fetched once each and go along as data", async () => {
    const visited: string[] = [];
    const { chat, asked } = testOpenai({
      invoke: (request) => {
        asked.push(request);
        return Promise.resolve(RESULT);
      },
    }, (url) => {
      visited.push(String(url));
      return Promise.resolve(png());
    });
    const url = "https://example.com/a.png";
    expect((await chat({ messages: [...message(url), ...message(url)] })).status).toBe(200);
    expect(visited).toEqual([url]);
    expect(asked[0]?.prompt.contents[1]?.parts).toEqual([{
      inlineData: { mimeType: "image/png", data: "AQID" },
    }]);
  });

  test.each([
    ["http://169.254.169.254/latest/meta-data", "public host"],
    ["https://example.com/page", "text/html"],
  ])("[openai.image-links] %s is refused by its place", async (url, why) => {
    const { chat } = testOpenai(
      {},
      () => Promise.resolve(new Response("<html>", { headers: { "content-type": "text/html" } })),
    );
    const response = await chat({ messages: message(url) });
    expect(response.status).toBe(400);
    expect((await response.json()).error).toMatchObject({
      param: "messages[0].content[0].image_url.url",
      message: expect.stringContaining(why),
    });
  });

  test("[openai.image-links] no more of them than a function can hold", async () => {
    const many = Array.from({ length: 17 }, (_, i) => message(`https://example.com/${i}.png`)[0]);
    expect((await testOpenai({}, () => Promise.resolve(png())).chat({ messages: many })).status).toBe(400);
    const big = () => new Response(new Uint8Array(6_000_000), { headers: { "content-type": "image/png" } });
    const two = [...message("https://example.com/a.png"), ...message("https://example.com/b.png")];
    const response = await testOpenai({}, () => Promise.resolve(big())).chat({ messages: two });
    expect((await response.json()).error.message).toContain("too large");
  });
});

describe("models", () => {
  const info = (model: string, more: Partial<ModelInfo> = {}): ModelInfo => ({
    model,
    replacedBy: null,
    provider: "google",
    rpm: 30,
    tpm: 16_000,
    rpd: null,
    capabilities: { system: true, json: true, tools: true, thinking: true },
    maxOutputTokens: null,
    createdAt: "2026-11-21T00:00:00+00:00",
    ...more,
  });
  const { ask } = testOpenai({
    models: () => Promise.resolve([info("gemma-4-31b-it"), info("gemma-3-27b", { createdAt: null })]),
  });

  test("are listed", async () => {
    const list = await (await ask("/models")).json();
    expect(list).toMatchObject({
      object: "list",
      data: [
        { id: "gemma-4-31b-it", object: "model", created: 1_795_219_200, owned_by: "google" },
        { id: "gemma-3-27b", created: 0 },
      ],
    });
  });

  test.each(["gemma-4-31b-it", "models%2Fgemma-4-31b-it", "models/gemma-4-31b-it"])(
    "%s is found",
    async (name) => {
      expect(await (await ask(`/models/${name}`)).json()).toMatchObject({
        id: "gemma-4-31b-it",
        object: "model",
      });
    },
  );

  test.each(["gpt-4o", "%E0%A4"])("%s is not", async (name) => {
    const response = await ask(`/models/${name}`);
    expect(response.status).toBe(404);
    expect((await response.json()).error).toMatchObject({ code: "model_not_found", param: "model" });
  });
});

test("HEAD is answered as GET is, without a body", async () => {
  const { receive } = testOpenai({ models: () => Promise.resolve([]) });
  const asked = (method: string, path: string) =>
    receive(new Request(`http://gateway/llm-invoke/openai/v1${path}`, { method }));
  for (const [path, status] of [["/models", 200], ["/nothing", 404], ["/embeddings", 405]] as const) {
    const [get, head] = [await asked("GET", path), await asked("HEAD", path)];
    expect([head.status, head.headers.get("content-type"), await head.text()]).toEqual([
      status,
      get.headers.get("content-type"),
      "",
    ]);
    expect(await get.text()).not.toBe("");
  }
});

describe("embeddings", () => {
  const values = [0.5, -1.25];

  function embedding() {
    const asked: EmbedRequest[] = [];
    const { ask } = testOpenai({
      embed: (request) => {
        asked.push(request);
        return Promise.resolve({
          ...RESULT,
          requestId: request.id,
          model: "gemini-embedding-001",
          embeddings: request.items.map(() => ({ values })),
          usage: { inputTokens: 7, estimated: true },
        });
      },
    });
    return {
      asked,
      embed: (more: unknown) => ask("/embeddings", { model: "gemini-embedding-001", ...Object(more) }),
    };
  }

  test("of one text and of several", async () => {
    const { asked, embed } = embedding();
    expect(await (await embed({ input: "a" })).json()).toEqual({
      object: "list",
      data: [{ object: "embedding", index: 0, embedding: values }],
      model: "gemini-embedding-001",
      usage: { prompt_tokens: 7, total_tokens: 7, estimated: true },
    });
    const two = await (await embed({ input: ["a", "b"], dimensions: 2, user: "u1" })).json();
    expect(two.data.map(({ index }: { index: number }) => index)).toEqual([0, 1]);
    expect(asked[1]).toMatchObject({
      endpoint: "openai",
      metadata: { user: "u1" },
      items: [
        { content: { parts: [{ text: "a" }] }, outputDimensionality: 2 },
        { content: { parts: [{ text: "b" }] }, outputDimensionality: 2 },
      ],
    });
  });

  test("in base64, as OpenAI's own clients ask for them", async () => {
    const body = await (await embedding().embed({ input: "a", encoding_format: "base64" })).json();
    const bytes = Uint8Array.from(atob(body.data[0].embedding), (char) => char.charCodeAt(0));
    expect([...new Float32Array(bytes.buffer)]).toEqual(values);
  });

  test("as many as OpenAI takes, and each that is wrong is named by its place", async () => {
    const { asked, embed } = embedding();
    expect((await embed({ input: Array(2_048).fill("a") })).status).toBe(200);
    expect(asked[0]!.items).toHaveLength(2_048);
    const { error } = await (await embed({ input: ["a", "", [1]] })).json();
    expect(error.param).toBe("input[1]");
    expect(error.eve.details.map(({ field }: { field: string }) => field)).toEqual(["input[1]", "input[2]"]);
  });

  test.each([
    { input: [1, 2, 3] },
    { input: [[1, 2], [3]] },
    { input: "" },
    { input: ["a", ""] },
    { input: [] },
    { input: Array(2_049).fill("a") },
    { input: "a", encoding_format: "int8" },
    { input: "a", dimensions: 0 },
    { input: "a", truncate: true },
    {},
  ])(
    "[openai.embeddings] %j is refused",
    async (more) => expect((await embedding().embed(more)).status).toBe(400),
  );
});

describe("addresses", () => {
  const { receive, ask } = testOpenai();

  test.each(["/nothing", "/chat", "/audio/speech"])(
    "[openai.not-found] %s is none, in OpenAI's words",
    async (path) => {
      const response = await ask(path, {});
      expect(response.status).toBe(404);
      expect((await response.json()).error).toMatchObject({
        type: "invalid_request_error",
        code: "not_found",
        message: expect.stringContaining("/openai/v1"),
      });
    },
  );

  test.each([
    ["/conversations", "previous_response_id"],
    ["/conversations/conv_1/items", "previous_response_id"],
    ["/threads", "/responses"],
    ["/realtime/sessions", "stream: true"],
  ])("[openai.not-found] %s is refused in words, with what to do instead", async (path, words) => {
    const response = await ask(path, {});
    expect([response.status, (await response.json()).error.message]).toEqual([
      404,
      expect.stringContaining(words),
    ]);
  });

  test("an address that there is not gets an error that says so", async () => {
    const response = await receive(
      new Request("http://gateway/llm-invoke/openai/v2/chat/completions", { method: "POST" }),
    );
    expect([response.status, (await response.json()).error.code]).toEqual([404, "not_found"]);
  });

  test("the wrong method gets an error that names the right one", async () => {
    const response = await ask("/chat/completions");
    expect([response.status, response.headers.get("allow")]).toEqual([405, "POST, OPTIONS"]);
  });

  test("a body that is too large, or no JSON", async () => {
    expect((await ask("/chat/completions", "x".repeat(100_001))).status).toBe(413);
    expect((await (await ask("/chat/completions", "{")).json()).error.code).toBe("invalid_json");
  });
});
