/** Anthropic's own client for JavaScript, with another base URL and key. */
import Anthropic from "@anthropic-ai/sdk";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { describe, expect, test } from "vitest";
import { until } from "../../harness/patience.ts";
import { z } from "zod";
import { BUSY_FOR_A_SECOND, GEMMA, leftEarly, PNG, SIGNING, type TestGateway } from "../test_gateway.ts";

type Params = Anthropic.MessageCreateParamsNonStreaming;

/** A tool that asks for nothing but what is in the prompt. */
const tool = (name: string, field: string): Anthropic.Tool => ({
  name,
  description: `Looks up the ${name.split("_")[1]}`,
  input_schema: { type: "object", properties: { [field]: { type: "string" } }, required: [field] },
});
const TOOLS = [tool("find_events", "date"), tool("find_weather", "city")];
const ASKS_FOR_BOTH = "Use find_events and find_weather for 5 мая 2027 года";
const PDF = btoa("%PDF-1.4\n%%EOF\n");

/** The text of a message. */
const textOf = ({ content }: Pick<Anthropic.Message, "content">) =>
  content.map((block) => block.type === "text" ? block.text : "").join("");

export function anthropicClient(gateway: () => TestGateway): void {
  const client = (options: ConstructorParameters<typeof Anthropic>[0] = {}) =>
    new Anthropic({
      apiKey: gateway().key,
      authToken: null,
      baseURL: `${gateway().baseUrl}/anthropic`,
      maxRetries: 0,
      ...options,
    });
  const ask = (content: Anthropic.MessageParam["content"], more: Partial<Params> = {}) =>
    client().messages.create({
      model: GEMMA,
      max_tokens: 1_000,
      messages: [{ role: "user", content }],
      ...more,
    });
  const lastBody = async () => (await gateway().bodies()).at(-1) as Record<string, Record<string, unknown>>;

  describe("@anthropic-ai/sdk", () => {
    test("[anthropic.messages anthropic.system] chats over several turns", async () => {
      const answer = await client().messages.create({
        model: GEMMA,
        max_tokens: 1_000,
        system: [{ type: "text", text: "Be brief.", cache_control: { type: "ephemeral" } }],
        messages: [
          { role: "user", content: "Say one" },
          { role: "assistant", content: "one" },
          { role: "user", content: [{ type: "text", text: "Reply with exactly: концерт" }] },
        ],
      });
      expect(answer).toMatchObject({
        type: "message",
        role: "assistant",
        model: GEMMA,
        stop_reason: "end_turn",
      });
      expect(textOf(answer)).toBe("концерт");
      expect(answer.usage.input_tokens).toBeGreaterThan(0);
      expect(answer._request_id).toMatch(/^[0-9a-f-]{36}$/);
      const { systemInstruction, contents } = await lastBody();
      expect(systemInstruction?.parts).toEqual([{ text: "Be brief." }]);
      expect(contents).toHaveLength(3);
      expect(await gateway().requests()).toMatchObject([{ state: "succeeded", endpoint: "anthropic" }]);
    });

    test("[anthropic.sampling anthropic.metadata] hands on how to answer, and for whom", async () => {
      // Some of it is no longer among the client's types, and still what older ones send.
      const sampling = { temperature: 0.3, top_p: 0.8, top_k: 40 };
      await ask("Hello", {
        ...sampling,
        stop_sequences: ["###", "END"],
        metadata: { user_id: "person-1" },
      });
      expect((await lastBody()).generationConfig).toEqual({
        temperature: 0.3,
        topP: 0.8,
        topK: 40,
        stopSequences: ["###", "END"],
        maxOutputTokens: 1_000,
        thinkingConfig: { thinkingLevel: "MINIMAL" },
      });
      await gateway().requests();
      const [row] = await gateway().sql`select metadata from eve.requests`;
      expect(row?.metadata).toEqual({ user: "person-1" });
    });

    test("[anthropic.cut-off] stops at a stop text, and at max_tokens", async () => {
      expect(textOf(await ask("Reply with exactly: one two three", { stop_sequences: [" two"] }))).toBe(
        "one",
      );
      expect((await ask("Write 500 words", { max_tokens: 60 })).stop_reason).toBe("max_tokens");
    });

    test("[anthropic.stream] streams, with the helper that puts it together", async () => {
      const stream = client().messages.stream({
        model: GEMMA,
        max_tokens: 1_000,
        messages: [{ role: "user", content: "Write 60 words about a concert" }],
      });
      const texts: string[] = [];
      stream.on("text", (delta) => void texts.push(delta));
      const message = await stream.finalMessage();
      expect(texts.length).toBeGreaterThan(3);
      expect(texts.join("").split(" ")).toHaveLength(60);
      expect(textOf(message)).toBe(texts.join(""));
      expect(message.stop_reason).toBe("end_turn");
      expect(message.usage.output_tokens).toBeGreaterThan(10);
      expect(message.usage.input_tokens).toBeGreaterThan(0);
    });

    test("[anthropic.leaving] leaves a stream, and the call upstream ends", async () => {
      const stream = await client().messages.create({
        model: GEMMA,
        max_tokens: 8_000,
        messages: [{ role: "user", content: "Write 3000 words about a concert" }],
        stream: true,
      });
      for await (const { type } of stream) if (type === "content_block_delta") break;
      await leftEarly(gateway());
    });

    test("[anthropic.stream-error] meets an error in the middle of a stream as an error", async () => {
      await gateway().faults({ kind: "mid_stream_error", afterChunks: 2, error: "overloaded" });
      const stream = client().messages.stream({
        model: GEMMA,
        max_tokens: 1_000,
        messages: [{ role: "user", content: "Write 200 words about a concert" }],
      });
      const error = await stream.finalMessage().catch((thrown) => thrown);
      expect(error).toBeInstanceOf(Anthropic.APIError);
      expect(error.error).toMatchObject({ type: "error", error: { type: "overloaded_error" } });
    });

    test("[anthropic.tools anthropic.signatures] calls tools in two turns, two at once, signatures included", async () => {
      const messages: Anthropic.MessageParam[] = [{ role: "user", content: ASKS_FOR_BOTH }];
      const asked = { model: SIGNING, max_tokens: 1_000, tools: TOOLS };
      const first = await client().messages.stream({ ...asked, messages }).finalMessage();
      const calls = first.content.flatMap((block) => block.type === "tool_use" ? [block] : []);
      expect(first.stop_reason).toBe("tool_use");
      expect(calls.map(({ name }) => name)).toEqual(["find_events", "find_weather"]);
      messages.push({ role: "assistant", content: first.content }, {
        role: "user",
        content: calls.toReversed().map(({ id, name }) => ({
          type: "tool_result" as const,
          tool_use_id: id,
          ...(name === "find_events"
            ? {
              content: [{ type: "text" as const, text: "Лекция" }, {
                type: "image" as const,
                source: { type: "base64" as const, media_type: "image/png" as const, data: PNG },
              }],
            }
            : { content: "no such city", is_error: true }),
        })),
      });
      const second = await client().messages.create({ ...asked, messages });
      expect(textOf(second)).toContain("Лекция");
      const { contents } = await lastBody() as unknown as {
        contents: { parts: Record<string, unknown>[] }[];
      };
      expect(contents[1]?.parts[0]).toHaveProperty("thoughtSignature");
      expect(contents[2]?.parts.map((part) => Object(part.functionResponse).response ?? part)).toEqual([
        { output: "Лекция" },
        { error: "no such city" },
        { inlineData: { mimeType: "image/png", data: PNG } },
      ]);
    });

    test("[anthropic.tools] runs its own loop of tools", async () => {
      const runner = client().beta.messages.toolRunner({
        model: SIGNING,
        max_tokens: 1_000,
        messages: [{ role: "user", content: "Use find_events for 5 мая 2027 года" }],
        tools: [betaZodTool({
          name: "find_events",
          description: "Looks up the events",
          inputSchema: z.object({ date: z.string() }),
          run: ({ date }) => `On ${typeof date === "string"}: Лекция`,
        })],
      });
      const last = await runner.runUntilDone();
      expect(last.content.map((block) => block.type === "text" ? block.text : "").join("")).toContain(
        "On true: Лекция",
      );
    });

    test("[anthropic.signatures] continues a conversation whose tools were called elsewhere", async () => {
      const answer = await client().messages.create({
        model: SIGNING,
        max_tokens: 1_000,
        tools: TOOLS,
        messages: [
          { role: "user", content: "What's on?" },
          {
            role: "assistant",
            content: [
              { type: "thinking", thinking: "Hmm", signature: "ErUBCkYIBRgC" },
              { type: "tool_use", id: "toolu_01A09q90qw90lq917835lq9", name: "find_events", input: {} },
            ],
          },
          {
            role: "user",
            content: [{
              type: "tool_result",
              tool_use_id: "toolu_01A09q90qw90lq917835lq9",
              content: "nothing",
            }],
          },
        ],
      });
      expect(textOf(answer)).toContain("nothing");
    });

    test("[anthropic.tool-choice] chooses tools: none, one by name, any, one at a time", async () => {
      const names = async (tool_choice: Anthropic.ToolChoice, content = "Hello", model = GEMMA) => {
        const { content: blocks } = await ask(content, { model, tools: TOOLS, tool_choice });
        return blocks.flatMap((block) => block.type === "tool_use" ? [block.name] : []);
      };
      expect(await names({ type: "none" })).toEqual([]);
      expect(await names({ type: "tool", name: "find_weather" })).toEqual(["find_weather"]);
      expect(await names({ type: "any" })).toHaveLength(1);
      const one = { type: "auto", disable_parallel_tool_use: true } as const;
      expect(await names(one, ASKS_FOR_BOTH, SIGNING)).toEqual(["find_events"]);
    });

    test("[anthropic.search] searches by upstream's own search", async () => {
      await ask("What is on today?", {
        model: SIGNING,
        tools: [{ type: "web_search_20250305", name: "web_search", max_uses: 2 }],
      });
      expect((await lastBody()).tools).toEqual([{ googleSearch: {} }]);
    });

    test("[anthropic.thinking] shows thoughts as blocks, and takes them back", async () => {
      const thinking = { type: "enabled", budget_tokens: 2_000 } as const;
      const asked = { model: SIGNING, max_tokens: 4_000, thinking, tools: TOOLS };
      const messages: Anthropic.MessageParam[] = [{ role: "user", content: ASKS_FOR_BOTH }];
      const stream = client().messages.stream({ ...asked, messages });
      const first = await stream.finalMessage();
      expect(first.content[0]).toMatchObject({ type: "thinking", thinking: expect.stringMatching(/\w/) });
      expect(first.usage.output_tokens_details?.thinking_tokens).toBeGreaterThan(0);
      const calls = first.content.flatMap((block) => block.type === "tool_use" ? [block] : []);
      messages.push({ role: "assistant", content: first.content }, {
        role: "user",
        content: calls.map(({ id }) => ({ type: "tool_result", tool_use_id: id, content: "ok" })),
      });
      const second = await client().messages.create({ ...asked, messages });
      expect(second.content.map(({ type }) => type)).toEqual(["thinking", "text"]);
      expect(JSON.stringify(await lastBody())).toContain('"thinkingLevel":"LOW"');
    });

    test("[anthropic.schema] gets an object of a schema", async () => {
      const Event = z.object({ title: z.string(), date: z.string(), tags: z.array(z.string()) });
      const answer = await client().messages.parse({
        model: GEMMA,
        max_tokens: 2_000,
        messages: [{ role: "user", content: "Концерт группы «Бульвар» 12 июля 2026 в 20:00" }],
        output_config: { format: zodOutputFormat(Event) },
      });
      expect(answer.parsed_output).toMatchObject({
        title: expect.stringContaining("Бульвар"),
        tags: expect.any(Array),
      });
    });

    test("[anthropic.media] sends pictures and documents, but none behind a private link", async () => {
      const answer = await ask([
        { type: "image", source: { type: "base64", media_type: "image/png", data: PNG } },
        {
          type: "document",
          source: { type: "base64", media_type: "application/pdf", data: PDF },
          title: "Programme",
        },
        { type: "text", text: "What is this?" },
      ], { model: SIGNING });
      expect(textOf(answer)).toBeTruthy();
      const sent = JSON.stringify(await lastBody());
      expect(sent).toContain(PNG);
      expect(sent).toContain(PDF);
      const error = await ask([
        { type: "image", source: { type: "url", url: `${gateway().stack.url}/image.png` } },
      ]).catch((thrown) => thrown);
      expect(error).toBeInstanceOf(Anthropic.BadRequestError);
      expect(error.message).toContain("messages[0].content[0].source.url");
    });

    test("[anthropic.count] counts tokens", async () => {
      const count = (content: string) =>
        client().messages.countTokens({
          model: GEMMA,
          system: "Be brief.",
          messages: [{ role: "user", content }],
        });
      const [short, long] = [await count("Hello"), await count("Hello ".repeat(500))];
      expect(short.input_tokens).toBeGreaterThan(3);
      expect(long.input_tokens).toBeGreaterThan(short.input_tokens * 10);
      expect((await gateway().stats()).inFlight).toBe(0);
    });

    test("[anthropic.models] lists the models in pages, and shows one", async () => {
      const ids = [];
      for await (const model of client().models.list({ limit: 2 })) ids.push(model.id);
      expect(ids).toEqual(expect.arrayContaining([GEMMA, SIGNING]));
      expect(new Set(ids).size).toBe(ids.length);
      expect(await client().models.retrieve(GEMMA)).toMatchObject({ id: GEMMA, type: "model" });
      await expect(client().models.retrieve("claude-opus-5")).rejects.toBeInstanceOf(Anthropic.NotFoundError);
    });

    test("[anthropic.errors] knows each error by its class, and does not try in vain", async () => {
      const eager = { maxRetries: 3 };
      const unknown = client(eager).messages.create({
        model: "claude-opus-5",
        max_tokens: 10,
        messages: [{ role: "user", content: "Hello" }],
      });
      await expect(unknown).rejects.toMatchObject({ status: 404, type: "not_found_error" });
      const stranger = await client({ ...eager, apiKey: "sk-ant-not-a-key" }).models.list().catch((thrown) =>
        thrown
      );
      expect(stranger).toBeInstanceOf(Anthropic.AuthenticationError);
      const publishable = client({ ...eager, apiKey: gateway().stack.keys.publishable }).models.list();
      await expect(publishable).rejects.toBeInstanceOf(Anthropic.PermissionDeniedError);
      const bearer = await client({ apiKey: null, authToken: gateway().key }).models.list();
      expect(bearer.data.length).toBeGreaterThan(0);
      await gateway().faults({ kind: "status", error: "overloaded", times: 9 });
      const overloaded = await ask("Hello").catch((thrown) => thrown);
      expect([overloaded.status, overloaded.type]).toEqual([529, "overloaded_error"]);
      expect(overloaded).toBeInstanceOf(Anthropic.OverloadedError);
      expect(overloaded.requestID).toBeTruthy();
    });

    test("[anthropic.quota] comes back after a 429 at the time it was given", async () => {
      await gateway().faults(BUSY_FOR_A_SECOND);
      const fetch = await gateway().stoppingClock();
      const answer = await client({ fetch, maxRetries: 2, defaultHeaders: { "x-eve-mode": "no_wait" } })
        .messages.create({
          model: GEMMA,
          max_tokens: 100,
          messages: [{ role: "user", content: "Reply with exactly: yes" }],
        });
      expect(textOf(answer)).toBe("yes");
      expect((await gateway().requests()).length).toBeGreaterThan(1);
    });

    test("[anthropic.too-large] is told that a prompt is too long, and a body too large", async () => {
      const prompt = await ask("слово ".repeat(20_000)).catch((thrown) => thrown);
      expect([prompt.status, prompt.type]).toEqual([400, "invalid_request_error"]);
      expect(prompt.apiMessage).toMatch(/^prompt is too long: /);
      const body = await ask("x".repeat(11_000_000)).catch((thrown) => thrown);
      expect([body.status, body.type]).toEqual([413, "request_too_large"]);
    });

    test("[anthropic.ignored anthropic.unsupported] sends fields that ask for nothing, and is refused what changes the answer", async () => {
      const { response } = await client().messages.create({
        model: GEMMA,
        max_tokens: 100,
        service_tier: "auto",
        inference_geo: "eu",
        messages: [{ role: "user", content: "Hello" }],
      }).withResponse();
      expect(response.headers.get("x-eve-ignored")).toBe("service_tier, inference_geo");
      const error = await ask("Hello", { tools: [{ type: "bash_20250124", name: "bash" }] })
        .catch((thrown) => thrown);
      expect(error.message).toContain("tools[0].type");
    });

    test("[anthropic.blocked] sees a filter as a refusal", async () => {
      await gateway().faults({ kind: "safety_block", where: "prompt", reason: "PROHIBITED_CONTENT" });
      expect(await ask("Hello")).toMatchObject({ stop_reason: "refusal", content: [] });
    });

    test("[anthropic.batches] runs a batch, and reads what came of each request", async () => {
      const { batches } = client().messages;
      const params = (content: string) => ({
        model: GEMMA,
        max_tokens: 100,
        messages: [{ role: "user" as const, content }],
      });
      const made = await batches.create({
        requests: [
          { custom_id: "good", params: params("Reply with exactly: концерт") },
          { custom_id: "bad", params: { ...params("Hello"), messages: [] } },
        ],
      });
      expect(made).toMatchObject({
        type: "message_batch",
        processing_status: "in_progress",
        results_url: null,
      });
      let batch = made;
      await until(async () => {
        batch = await batches.retrieve(made.id);
        return batch.processing_status === "ended";
      }, "the batch has not ended");
      expect(batch.request_counts).toEqual({
        processing: 0,
        succeeded: 1,
        errored: 1,
        canceled: 0,
        expired: 0,
      });
      const results = new Map<string, Anthropic.Messages.MessageBatchResult>();
      for await (const { custom_id, result } of await batches.results(made.id)) {
        results.set(custom_id, result);
      }
      const [good, bad] = [results.get("good"), results.get("bad")];
      expect(good?.type === "succeeded" && textOf(good.message)).toBe("концерт");
      expect(bad).toMatchObject({
        type: "errored",
        error: { type: "error", error: { type: "invalid_request_error" } },
      });
      const listed = [];
      for await (const { id } of batches.list({ limit: 1 })) listed.push(id);
      expect(listed).toContain(made.id);
      expect(await batches.delete(made.id)).toEqual({ id: made.id, type: "message_batch_deleted" });
      await expect(batches.retrieve(made.id)).rejects.toBeInstanceOf(Anthropic.NotFoundError);
    });

    test("[anthropic.batches] cancels one, and is told at once what is wrong with another", async () => {
      const { batches } = client().messages;
      const request = (custom_id: string, model = GEMMA) => ({
        custom_id,
        params: { model, max_tokens: 100, messages: [{ role: "user" as const, content: "Hello" }] },
      });
      await gateway().faults({ kind: "delay", delayMs: 60_000 });
      const made = await batches.create({ requests: [request("a")] });
      await expect(batches.delete(made.id)).rejects.toBeInstanceOf(Anthropic.BadRequestError);
      expect((await batches.cancel(made.id)).cancel_initiated_at).not.toBeNull();
      await until(
        async () => (await batches.retrieve(made.id)).processing_status === "ended",
        "the batch has not ended",
      );
      await batches.delete(made.id);
      const twice = await batches.create({ requests: [request("a"), request("a")] }).catch((thrown) =>
        thrown
      );
      expect(twice.message).toContain("requests[1].custom_id");
      const unknown = await batches.create({ requests: [request("a", "claude-opus-5")] }).catch((thrown) =>
        thrown
      );
      expect([unknown.status, unknown.message]).toEqual([
        400,
        expect.stringContaining("requests[0].params.model"),
      ]);
    });

    test("[anthropic.not-found] is told which addresses there are", async () => {
      const asked = client().post("/v1/complete", { body: { model: GEMMA } });
      const error: Error = await asked.then(() => expect.unreachable(), (thrown) => thrown);
      expect(error).toBeInstanceOf(Anthropic.NotFoundError);
      expect(error.message).toContain("/v1/messages");
    });
  });
}
