/** `@ai-sdk/google` under `ai`, with another base URL. */
import { createGoogleGenerativeAI } from "@ai-sdk/google";
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

/** Longer than the two seconds that this client would pause of its own accord. */
const BUSY_FOR_THREE_SECONDS = { ...BUSY_FOR_A_SECOND, retryMs: 3_000 };

export function aiSdk(gateway: () => TestGateway): void {
  const provider = (apiKey = gateway().key, headers: Record<string, string> = {}, through = fetch) =>
    createGoogleGenerativeAI({ apiKey, baseURL: `${gateway().baseUrl}/v1beta`, headers, fetch: through });

  describe("@ai-sdk/google", () => {
    test("[gemini.generate] generates, thoughts apart from the text", async () => {
      const { text, reasoningText, finishReason, usage } = await generateText({
        model: provider()(GEMMA),
        prompt: "Reply with exactly: концерт",
      });
      expect(text).toBe("концерт");
      expect(reasoningText).toContain("The user wants");
      expect(finishReason).toBe("stop");
      expect(usage.totalTokens).toBeGreaterThan(0);
    });

    test("[gemini.stream] streams", async () => {
      const { textStream } = streamText({
        model: provider()(GEMMA),
        prompt: "Write 60 words about a concert",
      });
      const pieces: string[] = [];
      for await (const piece of textStream) pieces.push(piece);
      expect(pieces.length).toBeGreaterThan(3);
      expect(pieces.join("").split(" ")).toHaveLength(60);
    });

    test("[gemini.leaving] leaves a stream, and the call upstream ends", async () => {
      const leaving = new AbortController();
      const { textStream } = streamText({
        model: provider()(GEMMA),
        prompt: "Write 3000 words about a concert",
        abortSignal: leaving.signal,
      });
      for await (const _ of textStream) leaving.abort();
      await leftEarly(gateway());
    });

    test("[gemini.tools] calls tools in two turns, signatures included", async () => {
      const { text, steps } = await generateText({
        model: provider()(SIGNING),
        prompt: "Use find_events for 5 мая 2027 года",
        tools: {
          find_events: tool({
            description: "Events of a day",
            inputSchema: jsonSchema<{ date: string }>({
              type: "object",
              properties: { date: { type: "string" } },
              required: ["date"],
            }),
            execute: ({ date }) => Promise.resolve({ events: [`Лекция ${date}`] }),
          }),
        },
        stopWhen: stepCountIs(3),
      });
      expect(steps).toHaveLength(2);
      expect(text).toContain("Лекция 2027-05-05");
    });

    test("[gemini.schema] gets an object of a schema", async () => {
      const { output } = await generateText({
        model: provider()(GEMMA),
        prompt: "Концерт 14 февраля в 19:00 в Доме офицеров",
        output: Output.object({
          schema: jsonSchema<{ date: string }>({
            type: "object",
            properties: { date: { type: "string" } },
            required: ["date"],
          }),
        }),
      });
      expect(output).toEqual({ date: expect.any(String) });
    });

    test("[gemini.images] sends an image", async () => {
      const { text } = await generateText({
        model: provider()(GEMMA),
        messages: [{
          role: "user",
          content: [{ type: "text", text: "What is this?" }, {
            type: "file",
            data: PNG,
            mediaType: "image/png",
          }],
        }],
      });
      expect(text).toBeTruthy();
      expect(JSON.stringify(await gateway().bodies())).toContain(PNG);
    });

    test("[gemini.embed] embeds one text, and many", async () => {
      const model = provider().embeddingModel(EMBEDDING);
      const { embedding } = await embed({ model, value: "концерт" });
      const { embeddings } = await embedMany({ model, values: ["концерт", "лекция"] });
      expect(embeddings).toHaveLength(2);
      expect(embeddings[0]).toEqual(embedding);
    });

    test("[gemini.bad-key] is refused for a bad key, and does not try again", async () => {
      const error = await generateText({
        model: provider("AIza-not-a-key")(GEMMA),
        prompt: "Hello",
        maxRetries: 3,
      }).catch((thrown) => thrown);
      expect(APICallError.isInstance(error)).toBe(true);
      expect(error).toMatchObject({ statusCode: 401, isRetryable: false });
    });

    test("[gemini.quota] comes back after a 429 at the time it was given", async () => {
      await gateway().faults(BUSY_FOR_THREE_SECONDS);
      const stopping = await gateway().stoppingClock();
      const calls: { from: number; to: number; retryAfterMs: number }[] = [];
      const { text } = await generateText({
        model: provider(undefined, { "x-eve-mode": "no_wait" }, async (...request) => {
          const from = performance.now();
          const response = await stopping(...request);
          const retryAfterMs = Number(response.headers.get("retry-after-ms"));
          calls.push({ from, to: performance.now(), retryAfterMs });
          return response;
        })(GEMMA),
        prompt: "Reply with exactly: yes",
        maxRetries: 2,
      });
      expect(text).toBe("yes");
      expect(calls).toHaveLength(2);
      const [refused, served] = calls;
      expect(refused!.retryAfterMs).toBeGreaterThan(2_500);
      // Timers may fire a millisecond early.
      expect(served!.from - refused!.to).toBeGreaterThan(refused!.retryAfterMs - 5);
      expect((await gateway().stats()).faults.total).toBe(2);
    });

    test("[gemini.stream-error] meets an error in the middle of a stream as an error", async () => {
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
