/** OpenAI's own client for JavaScript, with another base URL and key. */
import process from "node:process";
import OpenAI from "openai";
import { LengthFinishReasonError } from "openai/core/error";
import { zodResponseFormat } from "openai/helpers/zod";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { z } from "zod";
import {
  BUSY_FOR_A_SECOND,
  EMBEDDING,
  GEMMA,
  leftEarly,
  leftWaiting,
  PNG,
  SIGNING,
  type TestGateway,
} from "../test_gateway.ts";

/** Elsewhere Deno's server does not tell that a waiting client has left: see local/disconnects.ts. */
const noticed = test.skipIf(process.platform !== "linux");

type Message = OpenAI.ChatCompletionMessageParam;

/** A tool that asks for nothing but what is in the prompt. */
const tool = (name: string, field: string): OpenAI.ChatCompletionFunctionTool => ({
  type: "function",
  function: {
    name,
    description: `Looks up the ${name.split("_")[1]}`,
    strict: true,
    parameters: {
      type: "object",
      properties: { [field]: { type: "string" } },
      required: [field],
      additionalProperties: false,
    },
  },
});
const TOOLS = [tool("find_events", "date"), tool("find_weather", "city")];
const ASKS_FOR_BOTH = "Use find_events and find_weather for 5 мая 2027 года";

export function openaiClient(gateway: () => TestGateway): void {
  const client = (options: ConstructorParameters<typeof OpenAI>[0] = {}) =>
    new OpenAI({
      apiKey: gateway().key,
      baseURL: `${gateway().baseUrl}/openai/v1`,
      maxRetries: 0,
      ...options,
    });
  const ask = (content: string, more: Partial<OpenAI.ChatCompletionCreateParamsNonStreaming> = {}) =>
    client().chat.completions.create({ model: GEMMA, messages: [{ role: "user", content }], ...more });
  const lastBody = async () => (await gateway().bodies()).at(-1) as Record<string, Record<string, unknown>>;

  describe("openai", () => {
    test("[openai.system] chats over several turns, with system and developer messages", async () => {
      const answer = await client().chat.completions.create({
        model: GEMMA,
        messages: [
          { role: "system", content: "Be brief." },
          { role: "developer", content: "Answer in Russian." },
          { role: "user", content: "Say one" },
          { role: "assistant", content: "one" },
          { role: "user", content: "Reply with exactly: концерт" },
        ],
      });
      expect(answer.choices[0]).toMatchObject({
        finish_reason: "stop",
        message: { role: "assistant", content: "концерт" },
      });
      expect(answer.usage?.total_tokens).toBeGreaterThan(0);
      const { systemInstruction, contents } = await lastBody();
      expect(systemInstruction?.parts).toEqual([{ text: "Be brief." }, { text: "Answer in Russian." }]);
      expect(contents).toHaveLength(3);
    });

    test("[openai.chat openai.json] parses an event from a post", async () => {
      const answer = await ask(
        "Извлеки событие и верни JSON с полями title, date, place, price.\n\n" +
          "Концерт группы «Бульвар» 12 июля 2026 в 20:00, бар «Форма». Вход 500 ₽",
        { response_format: { type: "json_object" }, temperature: 0 },
      );
      expect(JSON.parse(answer.choices[0]!.message.content!)).toMatchObject({
        title: expect.stringContaining("Бульвар"),
        date: expect.stringContaining("2026-07-12"),
      });
    });

    test("[openai.sampling] hands on how to answer", async () => {
      await ask("Hello", {
        temperature: 0.3,
        top_p: 0.8,
        stop: ["###", "END"],
        max_completion_tokens: 300,
        seed: 7,
        presence_penalty: 0.5,
        frequency_penalty: -0.5,
        reasoning_effort: "low",
        user: "person-1",
      });
      expect((await lastBody()).generationConfig).toEqual({
        temperature: 0.3,
        topP: 0.8,
        stopSequences: ["###", "END"],
        maxOutputTokens: 300,
        seed: 7,
        presencePenalty: 0.5,
        frequencyPenalty: -0.5,
        thinkingConfig: { thinkingLevel: "MINIMAL" },
      });
      await gateway().requests();
      const [row] = await gateway().sql`select metadata from eve.requests`;
      expect(row?.metadata).toEqual({ user: "person-1" });
    });

    test("[openai.candidates] gets the model's own error that it makes one choice only", async () => {
      const error = await ask("Hello", { n: 2 }).catch((thrown) => thrown);
      expect(error).toBeInstanceOf(OpenAI.BadRequestError);
      expect(error.message).toContain("Multiple candidates");
    });

    test("[openai.sampling] stops at a stop text, and at max_tokens", async () => {
      const stopped = await ask("Reply with exactly: one two three", { stop: " two" });
      expect(stopped.choices[0]?.message.content).toBe("one");
      const cut = await ask("Write 500 words", { max_tokens: 120 });
      expect(cut.choices[0]?.finish_reason).toBe("length");
    });

    test("[openai.stream] streams, with the usage at the end", async () => {
      const stream = await client().chat.completions.create({
        model: GEMMA,
        messages: [{ role: "user", content: "Write 60 words about a concert" }],
        stream: true,
        stream_options: { include_usage: true },
      });
      const chunks = [];
      for await (const chunk of stream) chunks.push(chunk);
      expect(chunks[0]?.choices[0]?.delta.role).toBe("assistant");
      const pieces = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").filter((text) =>
        text !== ""
      );
      expect(pieces.length).toBeGreaterThan(3);
      expect(pieces.join("").split(" ")).toHaveLength(60);
      expect(chunks.at(-2)?.choices[0]?.finish_reason).toBe("stop");
      expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { prompt_tokens: expect.any(Number) } });
    });

    test("[openai.leaving] leaves a stream, and the call upstream ends", async () => {
      const stream = await client().chat.completions.create({
        model: GEMMA,
        messages: [{ role: "user", content: "Write 3000 words about a concert" }],
        stream: true,
      });
      for await (const _ of stream) break;
      await leftEarly(gateway());
    });

    noticed("[openai.leaving] leaves before the answer, and the call upstream ends", async () => {
      await gateway().faults({ kind: "delay", delayMs: 5_000 });
      const leaving = new AbortController();
      const asked = client().chat.completions.create(
        { model: GEMMA, messages: [{ role: "user", content: "Hello" }] },
        { signal: leaving.signal },
      ).catch((thrown) => thrown);
      await leftWaiting(gateway(), () => leaving.abort());
      expect(await asked).toBeInstanceOf(OpenAI.APIUserAbortError);
    });

    noticed(
      "[openai.leaving] leaves a stream before its first byte, and the call upstream ends",
      async () => {
        await gateway().faults({ kind: "delay", delayMs: 5_000 });
        const leaving = new AbortController();
        const asked = client().chat.completions.create(
          { model: GEMMA, messages: [{ role: "user", content: "Hello" }], stream: true },
          { signal: leaving.signal },
        ).catch((thrown) => thrown);
        await leftWaiting(gateway(), () => leaving.abort());
        expect(await asked).toBeInstanceOf(OpenAI.APIUserAbortError);
      },
    );

    noticed("[openai.leaving] gives up after its own timeout, and the call upstream ends", async () => {
      await gateway().faults({ kind: "hang" });
      vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
      onTestFinished(() => void vi.useRealTimers());
      const asked = client({ timeout: 600 }).chat.completions.create({
        model: GEMMA,
        // More than one packet.
        messages: [{ role: "user", content: "Концерт. ".repeat(3_000) }],
      }).catch((thrown) => thrown);
      await leftWaiting(gateway(), () => vi.advanceTimersByTime(600));
      expect(await asked).toBeInstanceOf(OpenAI.APIConnectionTimeoutError);
    });

    test("[openai.tools] calls tools in two turns, two at once, signatures included", async () => {
      const messages: Message[] = [{ role: "user", content: ASKS_FOR_BOTH }];
      const first = await client().chat.completions.create({ model: SIGNING, messages, tools: TOOLS });
      const message = first.choices[0]!.message;
      expect(first.choices[0]?.finish_reason).toBe("tool_calls");
      expect(message.tool_calls).toHaveLength(2);
      messages.push(message);
      for (const call of message.tool_calls ?? []) {
        messages.push({ role: "tool", tool_call_id: call.id, content: JSON.stringify({ found: "Лекция" }) });
      }
      const second = await client().chat.completions.create({ model: SIGNING, messages, tools: TOOLS });
      expect(second.choices[0]?.message.content).toContain("Лекция");
    });

    test("[openai.signatures] keeps signatures even if a client drops the fields it does not know", async () => {
      const messages: Message[] = [{ role: "user", content: ASKS_FOR_BOTH }];
      const first = await client().chat.completions.create({ model: SIGNING, messages, tools: TOOLS });
      const calls = (first.choices[0]!.message.tool_calls ?? []).map((call) => {
        if (call.type !== "function") throw new Error("not a function");
        const { name, arguments: args } = call.function;
        return { id: call.id, type: call.type, function: { name, arguments: args } };
      });
      messages.push({ role: "assistant", tool_calls: calls });
      // In another order than asked for.
      for (const call of calls.toReversed()) {
        messages.push({ role: "tool", tool_call_id: call.id, content: "ok" });
      }
      const second = await client().chat.completions.create({ model: SIGNING, messages, tools: TOOLS });
      expect(second.choices[0]?.finish_reason).toBe("stop");
      const { contents } = await lastBody() as unknown as {
        contents: { parts: Record<string, unknown>[] }[];
      };
      expect(contents[1]?.parts[0]).toHaveProperty("thoughtSignature");
      expect(contents[2]?.parts.map((part) => Object(part.functionResponse).name)).toEqual([
        "find_events",
        "find_weather",
      ]);
    });

    test("[openai.signatures] continues a conversation whose tools were called elsewhere", async () => {
      const answer = await client().chat.completions.create({
        model: SIGNING,
        tools: TOOLS,
        messages: [
          { role: "user", content: "What's on?" },
          {
            role: "assistant",
            tool_calls: [{
              id: "call_abc",
              type: "function",
              function: { name: "find_events", arguments: "{}" },
            }],
          },
          { role: "tool", tool_call_id: "call_abc", content: "nothing" },
        ],
      });
      expect(answer.choices[0]?.message.content).toContain("nothing");
    });

    test("[openai.tools] runs its own loop of tools over a stream", async () => {
      const runner = client().chat.completions.runTools({
        model: SIGNING,
        stream: true,
        messages: [{ role: "user", content: ASKS_FOR_BOTH }],
        tools: TOOLS.map(({ function: declared }) => ({
          type: "function" as const,
          function: {
            name: declared.name,
            description: declared.description!,
            parameters: declared.parameters!,
            parse: JSON.parse,
            function: () => `${declared.name} says Лекция`,
          },
        })),
      });
      expect(await runner.finalContent()).toContain("says Лекция");
    });

    test("[openai.tool-choice] chooses tools: none, one by name, or any", async () => {
      const call = async (tool_choice: OpenAI.ChatCompletionToolChoiceOption) => {
        const answer = await ask("Hello", { tools: TOOLS, tool_choice });
        return answer.choices[0]?.message.tool_calls?.map((one) =>
          one.type === "function" && one.function.name
        );
      };
      expect(await call("none")).toBeUndefined();
      expect(await call({ type: "function", function: { name: "find_weather" } })).toEqual(["find_weather"]);
      expect(await call("required")).toHaveLength(1);
    });

    test("[openai.one-tool-call] gets one call at a time if it wants no parallel ones", async () => {
      const answer = await ask(ASKS_FOR_BOTH, { model: SIGNING, tools: TOOLS, parallel_tool_calls: false });
      expect(answer.choices[0]?.message.tool_calls).toHaveLength(1);
    });

    const Event = z.object({ title: z.string(), date: z.string(), tags: z.array(z.string()) });

    test("[openai.schema] gets an object of a strict schema", async () => {
      const answer = await client().chat.completions.parse({
        model: GEMMA,
        messages: [{ role: "user", content: "Концерт группы «Бульвар» 12 июля 2026 в 20:00" }],
        response_format: zodResponseFormat(Event, "event"),
      });
      expect(answer.choices[0]?.message.parsed).toMatchObject({
        title: expect.stringContaining("Бульвар"),
        tags: expect.any(Array),
      });
    });

    test("[openai.cut-off] learns that an object was cut off", async () => {
      const error = await client().chat.completions.parse({
        model: GEMMA,
        messages: [{ role: "user", content: "Концерт группы «Бульвар» 12 июля 2026 в 20:00" }],
        response_format: zodResponseFormat(Event, "event"),
        max_completion_tokens: 100,
      }).catch((thrown) => thrown);
      expect(error).toBeInstanceOf(LengthFinishReasonError);
    });

    test("[openai.media] sends an image, but none behind a private link", async () => {
      const show = (url: string) =>
        client().chat.completions.create({
          model: GEMMA,
          messages: [{
            role: "user",
            content: [{ type: "text", text: "What is this?" }, { type: "image_url", image_url: { url } }],
          }],
        });
      expect((await show(`data:image/png;base64,${PNG}`)).choices[0]?.message.content).toBeTruthy();
      expect(JSON.stringify(await lastBody())).toContain(PNG);
      const error = await show(`${gateway().stack.url}/image.png`).catch((thrown) => thrown);
      expect(error).toBeInstanceOf(OpenAI.BadRequestError);
      expect(error.param).toBe("messages[0].content[1].image_url.url");
    });

    test("[openai.embeddings] embeds one text, and many", async () => {
      const one = await client().embeddings.create({ model: EMBEDDING, input: "концерт" });
      // The client asks for base64 by itself and decodes it.
      const many = await client().embeddings.create({
        model: EMBEDDING,
        input: ["концерт", "лекция"],
        encoding_format: "float",
      });
      expect(many.data).toHaveLength(2);
      expect(one.data[0]?.embedding).toHaveLength(3_072);
      expect(one.data[0]?.embedding[0]).toBeCloseTo(many.data[0]!.embedding[0]!, 6);
      const short = await client().embeddings.create({ model: EMBEDDING, input: "концерт", dimensions: 256 });
      expect(short.data[0]?.embedding).toHaveLength(256);
    });

    test("[openai.embeddings] embeds many texts in a few calls, each counted as upstream counts it", async () => {
      const input = Array.from({ length: 90 }, (_, n) => `концерт ${n}`);
      const { data } = await client().embeddings.create({
        model: EMBEDDING,
        input,
        encoding_format: "float",
        dimensions: 16,
      });
      // How many, unit tests say: here it depends on how fast the reservations come.
      expect((await gateway().bodies()).length).toBeLessThan(90);
      expect(await gateway().requests()).toHaveLength(90);
      const one = { model: EMBEDDING, input: input[77]!, encoding_format: "float", dimensions: 16 } as const;
      expect(data[77]?.embedding).toEqual((await client().embeddings.create(one)).data[0]?.embedding);
    });

    test("[openai.models] lists the models, and shows one", async () => {
      const ids = [];
      for await (const model of client().models.list()) ids.push(model.id);
      expect(ids).toEqual(expect.arrayContaining([GEMMA, SIGNING, EMBEDDING]));
      expect(await client().models.retrieve(GEMMA)).toMatchObject({ id: GEMMA, object: "model" });
      await expect(client().models.retrieve("gpt-4o")).rejects.toBeInstanceOf(OpenAI.NotFoundError);
      await expect(ask("Hello", { model: "gpt-4o" })).rejects.toMatchObject({
        status: 404,
        code: "model_not_found",
      });
    });

    test("[openai.bad-key] is refused for a bad key, and does not try again", async () => {
      const error = await client({ apiKey: "sk-not-a-key", maxRetries: 3 }).models.list().catch((thrown) =>
        thrown
      );
      expect(error).toBeInstanceOf(OpenAI.AuthenticationError);
      expect(error).toMatchObject({ status: 401, code: "invalid_api_key" });
    });

    test("[openai.quota] comes back after a 429 at the time it was given", async () => {
      await gateway().faults(BUSY_FOR_A_SECOND);
      const fetch = await gateway().stoppingClock();
      const since = Date.now();
      const answer = await client({ fetch, maxRetries: 2, defaultHeaders: { "x-eve-mode": "no_wait" } })
        .chat.completions
        .create({ model: GEMMA, messages: [{ role: "user", content: "Reply with exactly: yes" }] });
      expect(answer.choices[0]?.message.content).toBe("yes");
      expect(Date.now() - since).toBeGreaterThan(900);
      expect((await gateway().requests()).length).toBeGreaterThan(1);
    });

    test("[openai.quota] waits inside the gateway unless it says otherwise", async () => {
      await gateway().faults(BUSY_FOR_A_SECOND);
      expect((await ask("Reply with exactly: yes")).choices[0]?.message.content).toBe("yes");
      expect(await gateway().requests()).toHaveLength(1);
    });

    test("[openai.too-large] gets an error at once for what is too large", async () => {
      const body = await ask("x".repeat(11_000_000), {}).catch((thrown) => thrown);
      expect([body.status, body.code]).toEqual([413, "body_too_large"]);
      const prompt = await ask("слово ".repeat(20_000)).catch((thrown) => thrown);
      expect([prompt.status, prompt.code]).toEqual([400, "context_length_exceeded"]);
    });

    test("[openai.unsupported] gets an error that names what is not supported", async () => {
      const error = await ask("Hello", { logprobs: true }).catch((thrown) => thrown);
      expect(error).toBeInstanceOf(OpenAI.BadRequestError);
      expect(error.param).toBe("logprobs");
    });

    test("[openai.blocked] sees a filter as content_filter, and nothing as an error", async () => {
      await gateway().faults({ kind: "safety_block", where: "candidate" });
      expect((await ask("Hello")).choices[0]?.finish_reason).toBe("content_filter");
      await gateway().faults({ kind: "safety_block", where: "prompt", reason: "PROHIBITED_CONTENT" });
      expect((await ask("Hello")).choices[0]).toMatchObject({
        finish_reason: "content_filter",
        native_finish_reason: "PROHIBITED_CONTENT",
      });
      await gateway().faults({ kind: "empty_answer", times: 3 });
      const error = await ask("Hello").catch((thrown) => thrown);
      expect(error).toBeInstanceOf(OpenAI.InternalServerError);
      expect(error.code).toBe("empty_answer");
    });

    test("[openai.stream-error] meets an error in the middle of a stream as an error", async () => {
      await gateway().faults({ kind: "mid_stream_error", afterChunks: 2, error: "overloaded" });
      const stream = await client().chat.completions.create({
        model: GEMMA,
        messages: [{ role: "user", content: "Write 200 words about a concert" }],
        stream: true,
      });
      let pieces = 0;
      const error = await (async () => {
        for await (const _ of stream) pieces++;
      })().catch((thrown) => thrown);
      expect(error).toBeInstanceOf(OpenAI.APIError);
      expect(error.code).toBe("upstream_unavailable");
      expect(pieces).toBeGreaterThan(1);
    });

    test("[openai.responses] calls tools in two turns of the Responses API, signatures included", async () => {
      const tools = TOOLS.map(({ function: { name, description, parameters } }) => ({
        type: "function" as const,
        name,
        description,
        parameters: parameters!,
        strict: true,
      }));
      const input: OpenAI.Responses.ResponseInput = [{ role: "user", content: ASKS_FOR_BOTH }];
      const first = await client().responses.create({
        model: SIGNING,
        input,
        tools,
        instructions: "Be brief.",
      });
      const calls = first.output.filter((item) => item.type === "function_call");
      expect(calls).toHaveLength(2);
      input.push(...calls);
      for (const call of calls) {
        input.push({ type: "function_call_output", call_id: call.call_id, output: '{"found":"Лекция"}' });
      }
      const second = await client().responses.create({ model: SIGNING, input, tools });
      expect(second.status).toBe("completed");
      expect(second.output_text).toContain("Лекция");
    });

    test("[openai.responses] streams the Responses API, and gets an object of a schema from it", async () => {
      const stream = client().responses.stream({
        model: GEMMA,
        input: "Концерт группы «Бульвар» 12 июля 2026 в 20:00",
        text: {
          format: {
            type: "json_schema",
            name: "event",
            strict: true,
            schema: {
              type: "object",
              properties: { title: { type: "string" } },
              required: ["title"],
              additionalProperties: false,
            },
          },
        },
      });
      let deltas = "";
      for await (const event of stream) {
        if (event.type === "response.output_text.delta") deltas += event.delta;
      }
      const response = await stream.finalResponse();
      expect(response.output_text).toBe(deltas);
      expect(JSON.parse(deltas).title).toContain("Бульвар");
      expect(response.usage?.total_tokens).toBeGreaterThan(0);
    });

    test("[openai.files openai.media] names its files in a prompt by their ids", async () => {
      const { chat, files, responses } = client();
      const text = await files.create({
        file: new File(["Лекция в пятницу"], "a.txt", { type: "text/plain" }),
        purpose: "user_data",
      });
      const picture = await files.create({
        // Node's clients declare no type.
        file: new File([Uint8Array.from(atob(PNG), (char) => char.charCodeAt(0))], "a.png"),
        purpose: "vision",
      });
      expect(text).toMatchObject({ purpose: "user_data", filename: "a.txt", status: "processed" });
      await chat.completions.create({
        model: GEMMA,
        messages: [{
          role: "user",
          content: [{ type: "file", file: { file_id: text.id } }, { type: "text", text: "When?" }],
        }],
      });
      const inline = [{
        mimeType: "text/plain",
        data: btoa(unescape(encodeURIComponent("Лекция в пятницу"))),
      }, {
        mimeType: "image/png",
        data: PNG,
      }];
      const sent = async () =>
        (await lastBody() as unknown as { contents: { parts: { inlineData?: unknown }[] }[] })
          .contents[0]!.parts.flatMap(({ inlineData }) => inlineData ?? []);
      expect(await sent()).toEqual(inline.slice(0, 1));
      const content: OpenAI.Responses.ResponseInputContent[] = [
        { type: "input_file", file_id: text.id },
        { type: "input_image", file_id: picture.id, detail: "auto" },
        { type: "input_text", text: "When?" },
      ];
      await responses.create({ model: GEMMA, input: [{ role: "user", content }] });
      expect(await sent()).toEqual(inline);

      await files.delete(text.id);
      const gone = responses.create({ model: GEMMA, input: [{ role: "user", content }] });
      await expect(gone).rejects.toThrow(OpenAI.NotFoundError);
    });

    test("[openai.system openai.response-items] is answered to instructions alone, and for what OpenAI's own tools did", async () => {
      const alone = await client().chat.completions.create({
        model: GEMMA,
        messages: [{ role: "system", content: "Reply with exactly: yes" }],
      });
      expect(alone.choices[0]?.message.content).toBe("yes");
      const begunElsewhere = [
        { type: "mcp_call", id: "mcp_1", server_label: "a", name: "b", arguments: "{}" },
        { type: "compaction", id: "cmp_1", encrypted_content: "x" },
        // Pictures as LangChain writes them.
        {
          role: "user",
          content: [{ type: "image_url", image_url: { url: `data:image/png;base64,${PNG}` } }],
        },
        { role: "user", content: "Reply with exactly: yes" },
      ];
      const { data, response } = await client().responses
        .create({ model: GEMMA, input: begunElsewhere as OpenAI.Responses.ResponseInput }).withResponse();
      expect(data.output_text).toBe("yes");
      expect(response.headers.get("x-eve-ignored")).toBe("input[].mcp_call, input[].compaction");
    });

    test("[openai.responses] gets an error that names what the Responses API does not offer", async () => {
      const param = (more: Record<string, unknown>) =>
        client().responses.create({ model: GEMMA, input: "Hello", ...more }).catch((thrown) => thrown.param);
      expect(await param({ tools: [{ type: "file_search", vector_store_ids: [] }] })).toBe("tools[0].type");
      expect(await param({ max_output_tokens: 0 })).toBe("max_output_tokens");
      expect(await param({ input: [{ role: "user", content: [{ type: "input_image", image_url: "x" }] }] }))
        .toBe("input[0].content[0].image_url");
    });

    test("[openai.response-store] goes on from a response that is kept, and reads, lists and deletes it", async () => {
      const { responses } = client();
      const first = await responses.create({
        model: GEMMA,
        input: "Reply with exactly: one",
        metadata: { a: "b" },
      });
      expect(first).toMatchObject({ store: true, output_text: "one" });
      const second = await responses.create({
        model: GEMMA,
        previous_response_id: first.id,
        instructions: "Be brief.",
        input: [{ type: "item_reference", id: first.output.at(-1)!.id! }, { role: "user", content: "And?" }],
      });
      const { contents } = await lastBody() as unknown as { contents: { role: string; parts: unknown }[] };
      expect(contents.map(({ role }) => role)).toEqual(["user", "model", "model", "user"]);
      expect(contents[2]?.parts).toEqual([{ text: "one" }]);
      expect(second.previous_response_id).toBe(first.id);

      expect(await responses.retrieve(first.id)).toMatchObject({
        id: first.id,
        status: "completed",
        metadata: { a: "b" },
        output: first.output,
      });
      const items = [];
      for await (const item of responses.inputItems.list(second.id, { order: "asc", limit: 1 })) {
        items.push(item);
      }
      expect(items).toMatchObject([
        { id: first.output.at(-1)!.id, role: "assistant" },
        { type: "message", role: "user", content: [{ type: "input_text", text: "And?" }] },
      ]);
      await expect(responses.cancel(first.id)).rejects.toBeInstanceOf(OpenAI.BadRequestError);

      await responses.delete(first.id);
      const goneOn = responses.create({ model: GEMMA, previous_response_id: second.id, input: "And?" });
      await expect(goneOn).rejects.toBeInstanceOf(OpenAI.NotFoundError);
      await expect(responses.retrieve(first.id)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    });

    test("[openai.response-store] learns that a response is not kept, where it is not", async () => {
      const said = { model: GEMMA, input: "Hello" };
      const not = [
        await client().responses.create({ ...said, store: false }),
        await client({ defaultHeaders: { "x-eve-capture": "false" } }).responses.create(said),
      ];
      for (const response of not) {
        expect(response).toMatchObject({ store: false });
        await expect(client().responses.retrieve(response.id)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
      }
    });

    test("[openai.stream-error] meets an error in the middle of a streamed response as an error", async () => {
      await gateway().faults({ kind: "mid_stream_error", afterChunks: 2, error: "overloaded" });
      const stream = await client().responses.create({
        model: SIGNING,
        input: "Write 200 words about a concert",
        stream: true,
      });
      const error = await (async () => {
        for await (const _ of stream);
      })().catch((thrown) => thrown);
      expect(error).toBeInstanceOf(OpenAI.APIError);
      expect(error.code).toBe("upstream_unavailable");
    });

    test("[openai.input-tokens] counts an input", async () => {
      const { input_tokens } = await client().responses.inputTokens.count({ model: GEMMA, input: "Hello" });
      expect(input_tokens).toBeGreaterThan(0);
      expect((await gateway().stats()).admitted.total).toBe(0);
    });

    test("[openai.web-search] searches by Google's search, and cites what it found", async () => {
      const { output_text, output } = await client().responses.create({
        model: SIGNING,
        input: "Reply with exactly: концерт",
        tools: [{ type: "web_search" }],
      });
      const message = output.find((item) => item.type === "message")!;
      expect(message.content[0]).toMatchObject({
        annotations: [{ type: "url_citation", url: "https://example.com/", end_index: output_text.length }],
      });
      const stream = client().chat.completions.stream({
        model: SIGNING,
        messages: [{ role: "user", content: "Reply with exactly: концерт" }],
        web_search_options: {},
      });
      const cited = [];
      for await (const { choices: [choice] } of stream) {
        cited.push(...(Object(choice?.delta).annotations ?? []));
      }
      expect(cited).toMatchObject([{ url_citation: { start_index: 0, end_index: output_text.length } }]);
      const error = await ask("Hello", { web_search_options: {} }).catch((thrown) => thrown);
      expect(error).toBeInstanceOf(OpenAI.BadRequestError);
      expect(error.message).toContain("Search as tool is not enabled");
    });

    test("[openai.functions] calls functions as they were before tools, streamed and not", async () => {
      const functions = TOOLS.slice(0, 1).map(({ function: { strict: _, ...declared } }) => declared);
      const question: Message = { role: "user", content: "Use find_events for 5 мая 2027 года" };
      for (const model of [GEMMA, SIGNING]) {
        const { choices: [asked] } = await client().chat.completions.create({
          model,
          messages: [question],
          functions,
        });
        expect(asked).toMatchObject({ finish_reason: "function_call", message: { content: null } });
        expect(asked!.message.tool_calls).toBeUndefined();
        const call = asked!.message.function_call!;
        expect([call.name, JSON.parse(call.arguments)]).toEqual(["find_events", {
          date: expect.any(String),
        }]);
        const answered = await client().chat.completions.create({
          model,
          messages: [question, asked!.message, {
            role: "function",
            name: call.name,
            content: '{"events":["Лекция"]}',
          }],
          functions,
        });
        expect(answered.choices[0]).toMatchObject({
          finish_reason: "stop",
          message: { content: expect.stringContaining("Лекция") },
        });
      }
      const stream = client().chat.completions.stream({ model: GEMMA, messages: [question], functions });
      const { choices: [streamed] } = await stream.finalChatCompletion();
      expect(streamed).toMatchObject({
        finish_reason: "function_call",
        message: { function_call: { name: "find_events" } },
      });
    });

    test("[openai.completions openai.moderations openai.transcriptions openai.images] has the older and the smaller endpoints", async () => {
      const { completions, moderations, audio, images } = client();
      const completion = await completions.create({ model: GEMMA, prompt: "Reply with exactly: one" });
      expect(completion.choices[0]).toMatchObject({ text: "one", finish_reason: "stop" });
      let text = "";
      for await (
        const { choices: [choice] } of await completions.create({
          model: GEMMA,
          prompt: "Reply with exactly: one",
          stream: true,
        })
      ) text += choice?.text ?? "";
      expect(text).toBe("one");
      const several = await completions.create({
        model: GEMMA,
        prompt: ["Reply with exactly: a", "Reply with exactly: b"],
      });
      expect(several.choices.map(({ index, text }) => [index, text])).toEqual([[0, "a"], [1, "b"]]);

      const { results } = await moderations.create({ model: GEMMA, input: "Hello" });
      expect(results).toHaveLength(1);
      expect(results[0]?.category_scores["self-harm/intent"]).toEqual(expect.any(Number));
      await expect(moderations.create({ input: "Hello" })).rejects.toBeInstanceOf(OpenAI.BadRequestError);

      const file = new File([new Uint8Array([82, 73, 70, 70])], "a.wav", { type: "audio/wav" });
      expect((await audio.transcriptions.create({ model: GEMMA, file })).text).toBeTruthy();
      expect(JSON.stringify(await lastBody())).toContain('"mimeType":"audio/wav"');

      const error = await images.generate({ model: GEMMA, prompt: "A cat" }).catch((thrown) => thrown);
      expect(error).toBeInstanceOf(OpenAI.BadRequestError);
      expect(error.message).toContain("response modalities");
    });

    test("[openai.limits] reads the limits in the headers it knows", async () => {
      const { response, request_id } = await client().chat.completions
        .create({ model: GEMMA, messages: [{ role: "user", content: "Hello" }] }).withResponse();
      expect(response.headers.get("x-ratelimit-limit-requests")).toBe("30");
      expect(Number(response.headers.get("x-ratelimit-remaining-tokens"))).toBeGreaterThan(0);
      expect(request_id).toBe(response.headers.get("x-eve-request-id"));
    });
  });
}
