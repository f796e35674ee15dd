import { describe, expect, test } from "vitest";
import type { Prompt } from "../../../shared/contract/content.ts";
import { RESULT } from "./router_fixture.ts";
import { testAnthropic } from "./anthropic_fixture.ts";

/** What reaches the gateway for a request with these fields. */
async function promptFor(more: Record<string, unknown>): Promise<Prompt> {
  const { asked, messages } = testAnthropic();
  const response = await messages(more);
  expect(response.status, await response.clone().text()).toBe(200);
  return asked[0]!.prompt;
}
async function errorFor(more: Record<string, unknown>): Promise<string> {
  const { messages } = testAnthropic();
  const response = await messages(more);
  const body = await response.json();
  expect([response.status, body.type, body.error.type]).toEqual([400, "error", "invalid_request_error"]);
  return body.error.message;
}
const contentsOf = async (messages: unknown[], model = RESULT.model) =>
  (await promptFor({ messages, model })).contents;
const user = (content: unknown) => ({ role: "user", content });
const assistant = (content: unknown) => ({ role: "assistant", content });
const use = (id: string, name = "find") => ({ type: "tool_use", id, name, input: { city: "Berlin" } });
const result = (id: string, content: unknown, more = {}) => ({
  type: "tool_result",
  tool_use_id: id,
  content,
  ...more,
});
const call = { name: "find", args: { city: "Berlin" } };
const SIGNED = "toolu_abc__sig__AAAA";
const png = { type: "base64", media_type: "image/png", data: "iVBORw0KGgo=" };

describe("what is asked", () => {
  test("the system's words are one instruction, wherever they stand", async () => {
    const prompt = await promptFor({
      system: [{ type: "text", text: "Be brief.", cache_control: { type: "ephemeral" } }],
      messages: [user("One"), { role: "system", content: "Now in French." }, user("Two")],
    });
    expect(prompt.systemInstruction).toEqual({ parts: [{ text: "Be brief." }, { text: "Now in French." }] });
    // Messages of one role that follow each other are one turn.
    expect(prompt.contents).toEqual([{ role: "user", parts: [{ text: "One" }, { text: "Two" }] }]);
    expect((await promptFor({ system: "Be brief." })).systemInstruction).toEqual({
      parts: [{ text: "Be brief." }],
    });
  });

  test("how to write", async () => {
    const { generationConfig } = await promptFor({
      max_tokens: 77,
      temperature: 0.3,
      top_p: 0.9,
      top_k: 5,
      stop_sequences: ["#", "END"],
      output_config: {
        format: { type: "json_schema", schema: { type: "object", properties: { a: { type: "string" } } } },
      },
    });
    expect(generationConfig).toEqual({
      maxOutputTokens: 77,
      temperature: 0.3,
      topP: 0.9,
      topK: 5,
      stopSequences: ["#", "END"],
      responseMimeType: "application/json",
      responseSchema: { type: "object", properties: { a: { type: "string" } } },
      thinkingConfig: { thinkingLevel: "MINIMAL" },
    });
  });

  test.each([
    ["nothing", {}, "gemma-4-31b-it", { thinkingLevel: "MINIMAL" }],
    ["nothing of a pro model", {}, "gemini-3-pro", { thinkingLevel: "LOW" }],
    ["nothing of an unknown model", {}, "gpt-oss", undefined],
    ["no thoughts", { thinking: { type: "disabled" } }, "gemini-2.5-flash", { thinkingBudget: 0 }],
    ["a budget", { thinking: { type: "enabled", budget_tokens: 2_000 } }, "gemini-2.5-flash", {
      thinkingBudget: 2_000,
      includeThoughts: true,
    }],
    ["a budget above all", { thinking: { type: "enabled", budget_tokens: 60_000 } }, "gemini-2.5-flash", {
      thinkingBudget: 24_576,
      includeThoughts: true,
    }],
    ["a small budget", { thinking: { type: "enabled", budget_tokens: 1_024 } }, "gemini-3.5-flash", {
      thinkingLevel: "LOW",
      includeThoughts: true,
    }],
    ["a middling budget", { thinking: { type: "enabled", budget_tokens: 10_000 } }, "gemini-3.5-flash", {
      thinkingLevel: "MEDIUM",
      includeThoughts: true,
    }],
    ["as it likes", { thinking: { type: "adaptive" } }, "gemini-3.5-flash", { includeThoughts: true }],
    ["unseen", { thinking: { type: "adaptive", display: "omitted" } }, "gemini-3.5-flash", undefined],
    ["an effort", { output_config: { effort: "max" } }, "gemma-4-31b-it", { thinkingLevel: "HIGH" }],
  ])("thoughts: %s", async (_, asked, model, wanted) => {
    expect((await promptFor({ ...asked, model })).generationConfig?.thinkingConfig).toEqual(wanted);
  });

  test("tools, and how to choose among them", async () => {
    const input_schema = { type: "object", properties: { city: { type: "string" } } };
    const tools = [{ name: "find", description: "Finds.", input_schema }, {
      name: "stop",
      input_schema: { type: "object" },
      cache_control: { type: "ephemeral" },
    }];
    const declared = [{
      functionDeclarations: [{ name: "find", description: "Finds.", parameters: input_schema }, {
        name: "stop",
      }],
    }];
    const mode = async (tool_choice?: unknown, strict = false) => {
      const prompt = await promptFor({
        tool_choice,
        tools: strict ? tools.map((tool) => ({ ...tool, strict })) : tools,
      });
      expect(prompt.tools).toEqual(declared);
      return prompt.toolConfig?.functionCallingConfig;
    };
    expect(await mode()).toBeUndefined();
    expect(await mode({ type: "auto" }, true)).toEqual({ mode: "VALIDATED" });
    expect(await mode({ type: "any" })).toEqual({ mode: "ANY" });
    expect(await mode({ type: "none" })).toEqual({ mode: "NONE" });
    expect(await mode({ type: "tool", name: "stop" })).toEqual({
      mode: "ANY",
      allowedFunctionNames: ["stop"],
    });
    expect(await errorFor({ tools, tool_choice: { type: "tool", name: "jump" } })).toContain(
      "tool_choice.name",
    );
    const bash = [{ type: "bash_20250124", name: "bash" }];
    expect(await errorFor({ tools: bash })).toContain("tools[0].type");
    expect(await errorFor({ tools: [{ name: "find" }] })).toContain("tools[0].input_schema");
  });

  test("Anthropic's search is upstream's", async () => {
    const search = { type: "web_search_20250305", name: "web_search", max_uses: 3 };
    expect(await promptFor({ tools: [search], tool_choice: { type: "any" } })).toMatchObject({
      tools: [{ googleSearch: {} }],
    });
    const bounded = { ...search, allowed_domains: ["a.example"] };
    expect(await errorFor({ tools: [bounded] })).toContain("tools[0].allowed_domains");
  });
});

describe("results of tools", () => {
  test("stand before what is said, in the order of the calls, pictures behind them", async () => {
    const contents = await contentsOf([
      user("?"),
      assistant([{ type: "text", text: "Looking." }, use("a"), use("b", "look")]),
      user([
        { type: "text", text: "And?" },
        result("b", [{ type: "text", text: "A cat." }, { type: "image", source: png }]),
        result("a", '{"found":1}'),
      ]),
    ]);
    expect(contents.slice(1)).toEqual([
      {
        role: "model",
        parts: [{ text: "Looking." }, { functionCall: call }, { functionCall: { ...call, name: "look" } }],
      },
      {
        role: "user",
        parts: [
          { functionResponse: { name: "find", response: { found: 1 } } },
          { functionResponse: { name: "look", response: { output: "A cat." } } },
          { inlineData: { mimeType: "image/png", data: png.data } },
          { text: "And?" },
        ],
      },
    ]);
  });

  test("that are errors, that are missing, and that come late, end no conversation", async () => {
    const contents = await contentsOf([
      user("?"),
      assistant([use("a"), use("b")]),
      user([result("a", "no such city", { is_error: true })]),
      assistant("Hm."),
      user([result("b", "here it is")]),
    ]);
    const responses = contents[2]!.parts!.map((part) =>
      (part.functionResponse as { response: unknown }).response
    );
    expect(responses).toEqual([{ error: "no such city" }, { error: "The tool gave no result." }]);
    expect(contents[4]!.parts).toEqual([{ text: "A tool's result: here it is" }]);
    // A conversation that ends with a call goes on, too.
    expect((await contentsOf([user("?"), assistant([use("a")])])).at(-1)).toMatchObject({ role: "user" });
  });
});

describe("signatures", () => {
  const calls = async (blocks: unknown[], model = "gemini-3.5-flash") =>
    (await contentsOf(
      [user("?"), assistant(blocks), user([result(SIGNED, "ok"), result("b", "ok")])],
      model,
    ))[1]!.parts;

  test("come back with the call whose id carries them, or from the thoughts before it", async () => {
    expect(await calls([use(SIGNED)])).toEqual([{ functionCall: call, thoughtSignature: "AAAA" }]);
    const thinking = { type: "thinking", thinking: "Hmm", signature: "eve_BBBB" };
    expect(await calls([thinking, use("b")])).toEqual([{ functionCall: call, thoughtSignature: "BBBB" }]);
    expect(await calls([thinking, { type: "text", text: "So." }])).toEqual([
      { text: "So.", thoughtSignature: "BBBB" },
    ]);
  });

  test("of other models are worth nothing: the first call says that it is unsigned, where one is wanted", async () => {
    const foreign = { type: "thinking", thinking: "Hmm", signature: "ErUBCkYIBR..." };
    expect(await calls([foreign, use("b"), use("c")])).toEqual([
      { functionCall: call, thoughtSignature: "skip_thought_signature_validator" },
      { functionCall: call },
    ]);
    expect(await calls([foreign, { type: "redacted_thinking", data: "x" }, use("b")], "gemma-4-31b-it"))
      .toEqual([
        { functionCall: call },
      ]);
  });
});

describe("what is shown", () => {
  test("pictures, documents, texts and findings", async () => {
    const pdf = { type: "base64", media_type: "application/pdf", data: "JVBERi0x\nLjQ=" };
    const [turn] = await contentsOf([user([
      { type: "image", source: png },
      { type: "document", source: pdf, title: "Programme", context: "Of the festival." },
      { type: "document", source: { type: "text", media_type: "text/plain", data: "Noon." } },
      { type: "document", source: { type: "content", content: [{ type: "text", text: "Evening." }] } },
      {
        type: "search_result",
        source: "https://a.example",
        title: "Found",
        content: [{ type: "text", text: "Night." }],
      },
    ])]);
    expect(turn!.parts).toEqual([
      { inlineData: { mimeType: "image/png", data: png.data } },
      { text: "Programme" },
      { text: "Of the festival." },
      { inlineData: { mimeType: "application/pdf", data: "JVBERi0xLjQ=" } },
      { text: "Noon." },
      { text: "Evening." },
      { text: "Found (https://a.example)" },
      { text: "Night." },
    ]);
  });

  test("what is behind links is fetched, and none on private ground", async () => {
    const linked = (url: string, type = "image") => ({
      messages: [user([{ type, source: { type: "url", url } }])],
    });
    const fetched: string[] = [];
    const { asked, messages } = testAnthropic({}, (url) => {
      fetched.push(String(url));
      return Promise.resolve(new Response("abc", { headers: { "content-type": "image/png" } }));
    });
    expect((await messages(linked("https://pictures.example/a.png"))).status).toBe(200);
    expect(asked[0]!.prompt.contents[0]!.parts).toEqual([{
      inlineData: { mimeType: "image/png", data: "YWJj" },
    }]);
    expect(await errorFor(linked("http://127.0.0.1/a.png"))).toContain("messages[0].content[0].source.url");
    expect(await errorFor(linked("file:///etc/passwd"))).toContain("messages[0].content[0].source.url");
    expect((await messages(linked("https://pictures.example/a.png", "document"))).status).toBe(400);
    expect(fetched).toHaveLength(2);
  });

  test("files of another's are refused by their place", async () => {
    const source = { type: "file", file_id: "file_1" };
    expect(await errorFor({ messages: [user([{ type: "image", source }])] })).toContain(
      "messages[0].content[0].source",
    );
    expect(
      await errorFor({ messages: [user([{ type: "image", source: { ...png, media_type: "text/html" } }])] }),
    )
      .toContain("is no image but text/html");
  });
});

describe("fields", () => {
  test("that ask for nothing are taken, and those nobody acted on are named", async () => {
    const { messages, asked } = testAnthropic();
    const response = await messages({
      metadata: { user_id: "person-1" },
      service_tier: "auto",
      inference_geo: "eu",
      context_management: { edits: [] },
      mcp_servers: [],
      container: null,
      a_newer_field: { type: "x" },
      tool_choice: null,
      stop_sequences: null,
    });
    expect(response.status).toBe(200);
    expect(response.headers.get("x-eve-ignored")).toBe(
      "service_tier, inference_geo, context_management, a_newer_field",
    );
    expect(asked[0]!.metadata).toEqual({ user: "person-1" });
    const strict = await testAnthropic({}, undefined, { strictFields: true }).messages({ speed: "fast" });
    expect([strict.status, (await strict.json()).error.message]).toEqual([
      400,
      expect.stringContaining("speed"),
    ]);
  });

  test("that are null count as absent, wherever they stand", async () => {
    const contents = await contentsOf([
      { role: "user", content: "?", name: null },
      assistant([{ ...use("a"), input: null, cache_control: null }]),
      user([result("a", null, { is_error: null, cache_control: null })]),
    ]);
    expect(contents[1]!.parts).toEqual([{ functionCall: { name: "find", args: {} } }]);
    expect(contents[2]!.parts).toEqual([{ functionResponse: { name: "find", response: { output: "" } } }]);
  });

  test.each([
    ["max_tokens", { max_tokens: undefined }],
    ["messages", { messages: [] }],
    ["messages[0].role", { messages: [{ role: "tool", content: "x" }] }],
    ["messages[0].content[0]", { messages: [{ role: "user", content: [{ type: "video" }] }] }],
    ["stop_sequences", { stop_sequences: ["1", "2", "3", "4", "5", "6", "7"] }],
    ["mcp_servers", { mcp_servers: [{ url: "https://a.example" }] }],
    ["thinking.budget_tokens", { thinking: { type: "enabled", budget_tokens: 10 } }],
    ["output_config.format.schema", {
      output_config: { format: { type: "json_schema", schema: { type: "object", pattern: "(" } } },
    }],
  ])("%s is refused by name", async (field, more) => {
    expect(await errorFor(more)).toContain(field);
  });
});
