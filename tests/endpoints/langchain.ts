/** LangChain's models of OpenAI, Google and Anthropic: what chains and agents of all three do, each by its own endpoint. */
import { ChatAnthropic } from "@langchain/anthropic";
import type { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { AIMessage, type AIMessageChunk, HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatGoogleGenerativeAI, GoogleGenerativeAIEmbeddings } from "@langchain/google-genai";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { createAgent } from "langchain";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { EMBEDDING, PNG, SIGNING, type TestGateway } from "./test_gateway.ts";

const ASKS = "Use find_events for 5 мая 2027 года";
const findEvents = tool(() => "Лекция", {
  name: "find_events",
  description: "Looks up the events",
  schema: z.object({ date: z.string() }),
});
/** Null among the types, which Google's own form of schemas has not. */
const Person = z.object({ name: z.string(), age: z.number().nullable(), tags: z.array(z.string()) });

type Model = BaseChatModel;

export function langchain(gateway: () => TestGateway): void {
  const common = () => ({ model: SIGNING, apiKey: gateway().key, maxRetries: 0 });
  const openaiUrl = () => ({ configuration: { baseURL: `${gateway().baseUrl}/openai/v1` } });
  const openai = (more = {}) => new ChatOpenAI({ ...common(), ...openaiUrl(), ...more });
  const google = (more = {}) =>
    new ChatGoogleGenerativeAI({ ...common(), baseUrl: gateway().baseUrl, ...more });
  const anthropic = (more = {}) =>
    new ChatAnthropic({ ...common(), anthropicApiUrl: `${gateway().baseUrl}/anthropic`, ...more });

  async function chatsAndStreams(model: (more?: object) => Model): Promise<void> {
    const answers = await model().batch(["Reply with exactly: one", "Reply with exactly: two"]);
    expect(answers.map(({ text }) => text)).toEqual(["one", "two"]);
    let whole: AIMessageChunk | undefined;
    let pieces = 0;
    for await (const chunk of await model().stream("Write 60 words about a concert")) {
      pieces++;
      whole = whole === undefined ? chunk : whole.concat(chunk);
    }
    expect(pieces).toBeGreaterThan(2);
    expect(whole!.usage_metadata?.output_tokens).toBeGreaterThan(40);
    const image_url = { url: `data:image/png;base64,${PNG}` };
    const content = [{ type: "text", text: "Reply with exactly: seen" }, { type: "image_url", image_url }];
    expect((await model().invoke([new HumanMessage({ content })])).text).toBe("seen");
    await expect(model({ apiKey: "wrong" }).invoke("Hello")).rejects.toMatchObject({ status: 401 });
  }

  async function callsTools(model: Model): Promise<void> {
    const bound = model.bindTools!([findEvents]);
    const question = new HumanMessage(ASKS);
    let call: AIMessageChunk | undefined;
    for await (const chunk of await bound.stream([question])) {
      call = call === undefined ? chunk : call.concat(chunk);
    }
    expect(call!.tool_calls).toMatchObject([{ name: "find_events", args: { date: "2027-05-05" } }]);
    const result: ToolMessage = await findEvents.invoke(call!.tool_calls![0]!);
    expect((await bound.invoke([question, call!, result])).text).toContain("Лекция");
    // A call that another model made, so that there is no signature.
    const made = new AIMessage({
      content: "",
      tool_calls: [{ id: "call_1", name: "find_events", args: {} }],
    });
    const theirs = new ToolMessage({ tool_call_id: "call_1", name: "find_events", content: "Лекция" });
    expect((await bound.invoke([question, made, theirs])).text).toContain("Лекция");
  }

  async function runsAgents(model: Model): Promise<void> {
    const person = await model.withStructuredOutput(Person, { name: "person" })
      .invoke("A person named Ann");
    expect(Person.parse(person)).toEqual(person);
    const agent = createAgent({ model, tools: [findEvents], responseFormat: Person });
    const { messages, structuredResponse } = await agent.invoke({
      messages: [{ role: "user", content: ASKS }],
    });
    expect(Person.parse(structuredResponse)).toEqual(structuredResponse);
    expect(messages.some((message) => message.text.includes("Лекция"))).toBe(true);
  }

  describe("@langchain/openai", () => {
    test("[openai.chat] answers in batches and streams, sees pictures, and is refused for a bad key", () =>
      chatsAndStreams(openai));

    test("[openai.tools] calls a tool of a stream, and goes on from calls that were made elsewhere", () =>
      callsTools(openai()));

    test("[openai.schema] gives objects of a schema, and runs an agent to its end", () =>
      runsAgents(openai()));

    test("[openai.responses] does the same by the Responses API", async () => {
      await chatsAndStreams((more) => openai({ useResponsesApi: true, ...more }));
      await callsTools(openai({ useResponsesApi: true }));
    });

    test("[openai.embeddings] embeds a query, and documents", async () => {
      const embeddings = new OpenAIEmbeddings({
        model: EMBEDDING,
        apiKey: gateway().key,
        dimensions: 256,
        ...openaiUrl(),
      });
      expect(await embeddings.embedQuery("concert")).toHaveLength(256);
      expect(await embeddings.embedDocuments(["one", "two"])).toHaveLength(2);
    });
  });

  describe("@langchain/google-genai", () => {
    test("[gemini.generate gemini.stream] answers in batches and streams, sees pictures, and is refused for a bad key", () =>
      chatsAndStreams(google));

    test("[gemini.tools] calls a tool of a stream, and goes on from calls that were made elsewhere", () =>
      callsTools(google()));

    test("[gemini.schema-types] gives objects of a schema whose types may be null, and runs an agent to its end", () =>
      runsAgents(google()));

    test("[gemini.embed] embeds a query, and documents", async () => {
      const { baseUrl, key: apiKey } = gateway();
      const embeddings = new GoogleGenerativeAIEmbeddings({ model: EMBEDDING, apiKey, baseUrl });
      expect((await embeddings.embedQuery("concert")).length).toBeGreaterThan(100);
      expect(await embeddings.embedDocuments(["one", "two"])).toHaveLength(2);
    });
  });

  describe("@langchain/anthropic", () => {
    test("[anthropic.messages] answers in batches and streams, sees pictures, and is refused for a bad key", () =>
      chatsAndStreams(anthropic));

    test("[anthropic.tools] calls a tool of a stream, and goes on from calls that were made elsewhere", () =>
      callsTools(anthropic()));

    test("[anthropic.schema] gives objects of a schema, and runs an agent to its end", () =>
      runsAgents(anthropic()));
  });
}
