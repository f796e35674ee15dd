/** `@ai-sdk/openai-compatible` under `ai`, with another base URL. */
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  APICallError,
  embed,
  embedMany,
  generateText,
  jsonSchema,
  Output,
  stepCountIs,
  streamText,
  tool,
} from "ai";
import { describe, expect, test } from "vitest";
import {
  BUSY_FOR_A_SECOND,
  EMBEDDING,
  GEMMA,
  leftEarly,
  PNG,
  SIGNING,
  type TestGateway,
} from "../test_gateway.ts";

export function aiSdk(gateway: () => TestGateway): void {
  const provider = (apiKey = gateway().key, headers: Record<string, string> = {}) =>
    createOpenAICompatible({
      name: "eve",
      apiKey,
      baseURL: `${gateway().baseUrl}/openai/v1`,
      headers,
      includeUsage: true,
      supportsStructuredOutputs: true,
    });

  describe("@ai-sdk/openai-compatible", () => {
    test("[openai.chat] generates, thoughts apart from the text", async () => {
      const { text, reasoningText, finishReason, usage } = await generateText({
        model: provider()(GEMMA),
        prompt: "Reply with exactly: концерт",
      });
      expect(text).toBe("концерт");
      expect(reasoningText).toContain("The user wants");
      expect(finishReason).toBe("stop");
      expect(usage.totalTokens).toBeGreaterThan(0);
    });

    test("[openai.stream] streams, thoughts apart from the text", async () => {
      const result = streamText({ model: provider()(GEMMA), prompt: "Write 60 words about a concert" });
      const pieces: string[] = [];
      for await (const piece of result.textStream) pieces.push(piece);
      expect(pieces.length).toBeGreaterThan(3);
      expect(pieces.join("").split(" ")).toHaveLength(60);
      expect((await result.usage).totalTokens).toBeGreaterThan(0);
      expect(await result.reasoningText).toContain("The user wants");
    });

    test("[openai.leaving] leaves a stream, and the call upstream ends", async () => {
      const leaving = new AbortController();
      const { textStream } = streamText({
        model: provider()(GEMMA),
        prompt: "Write 3000 words about a concert",
        abortSignal: leaving.signal,
      });
      for await (const _ of textStream) leaving.abort();
      await leftEarly(gateway());
    });

    const finds = (what: string) =>
      tool({
        description: what,
        inputSchema: jsonSchema<{ date: string }>({
          type: "object",
          properties: { date: { type: "string" } },
          required: ["date"],
        }),
        execute: ({ date }) => Promise.resolve({ found: `${what} ${date}` }),
      });
    const tools = { find_events: finds("Лекция"), find_weather: finds("Ясно") };
    const prompt = "Use find_events and find_weather for 5 мая 2027 года";

    test("[openai.tools] calls tools in two turns, two at once, signatures included", async () => {
      const { text, steps } = await generateText({
        model: provider()(SIGNING),
        prompt,
        tools,
        stopWhen: stepCountIs(3),
      });
      expect(steps).toHaveLength(2);
      expect(steps[0]?.toolCalls).toHaveLength(2);
      expect(text).toContain("Лекция 2027-05-05");
    });

    test("[openai.tools] calls tools in two turns of a stream", async () => {
      const result = streamText({ model: provider()(SIGNING), prompt, tools, stopWhen: stepCountIs(3) });
      expect(await result.text).toContain("Лекция 2027-05-05");
      expect(await result.steps).toHaveLength(2);
    });

    test("[openai.schema] gets an object of a schema", async () => {
      const { output } = await generateText({
        model: provider()(GEMMA),
        prompt: "Концерт 14 февраля в 19:00 в Доме офицеров",
        output: Output.object({
          schema: jsonSchema<{ date: string }>({
            type: "object",
            properties: { date: { type: "string" } },
            required: ["date"],
            additionalProperties: false,
          }),
        }),
      });
      expect(output).toEqual({ date: expect.any(String) });
    });

    test("[openai.media] sends an image", async () => {
      const { text } = await generateText({
        model: provider()(GEMMA),
        messages: [{
          role: "user",
          content: [{ type: "text", text: "What is this?" }, {
            type: "image",
            image: PNG,
            mediaType: "image/png",
          }],
        }],
      });
      expect(text).toBeTruthy();
      expect(JSON.stringify(await gateway().bodies())).toContain(PNG);
    });

    test("[openai.embeddings] embeds one text, and many", async () => {
      const model = provider().embeddingModel(EMBEDDING);
      const { embedding } = await embed({ model, value: "концерт" });
      const { embeddings } = await embedMany({ model, values: ["концерт", "лекция"] });
      expect(embeddings).toHaveLength(2);
      expect(embeddings[0]).toEqual(embedding);
    });

    test("[openai.bad-key] is refused for a bad key, and does not try again", async () => {
      const error = await generateText({
        model: provider("sk-not-a-key")(GEMMA),
        prompt: "Hello",
        maxRetries: 3,
      })
        .catch((thrown) => thrown);
      expect(APICallError.isInstance(error)).toBe(true);
      expect(error).toMatchObject({ statusCode: 401, isRetryable: false });
    });

    test("[openai.quota] comes back after a 429 at the time it was given", async () => {
      await gateway().faults(BUSY_FOR_A_SECOND);
      const { text } = await generateText({
        model: provider(undefined, { "x-eve-mode": "no_wait" })(GEMMA),
        prompt: "Reply with exactly: yes",
        maxRetries: 2,
      });
      expect(text).toBe("yes");
      expect((await gateway().stats()).faults.total).toBe(2);
    });

    test("[openai.stream-error] meets an error in the middle of a stream as an error", async () => {
      await gateway().faults({ kind: "mid_stream_error", afterChunks: 2, error: "overloaded" });
      const errors: unknown[] = [];
      const { fullStream } = streamText({
        model: provider()(GEMMA),
        prompt: "Write 200 words about a concert",
        onError: ({ error }) => void errors.push(error),
      });
      for await (const _ of fullStream);
      expect(errors.length).toBeGreaterThan(0);
    });
  });
}
