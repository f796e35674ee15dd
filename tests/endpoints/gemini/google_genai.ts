/** `@google/genai`, Google's client of today, with another base URL and nothing else. */
import { ApiError, FunctionCallingConfigMode, GoogleGenAI, type HttpOptions, Type } from "@google/genai";
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

export function googleGenai(gateway: () => TestGateway): void {
  const client = (options: HttpOptions = {}, apiKey = gateway().key) =>
    new GoogleGenAI({ apiKey, httpOptions: { baseUrl: gateway().baseUrl, ...options } });
  const errorOf = async (answer: Promise<unknown>) => {
    const error = await answer.then(() => expect.unreachable(), (thrown) => thrown as ApiError);
    expect(error).toBeInstanceOf(ApiError);
    return { status: error.status, ...JSON.parse(error.message).error };
  };

  describe("@google/genai", () => {
    test.each(["v1beta", "v1"])("[gemini.generate] generates on /%s", async (apiVersion) => {
      const response = await client({ apiVersion }).models.generateContent({
        model: GEMMA,
        contents: "Reply with exactly: концерт",
        config: { temperature: 0, systemInstruction: "Кратко." },
      });
      expect(response.text).toBe("концерт");
      expect(response.candidates?.[0]?.finishReason).toBe("STOP");
      expect(response.usageMetadata?.totalTokenCount).toBeGreaterThan(0);
      expect(response.modelVersion).toBe(GEMMA);
      expect(response.responseId).toBeTruthy();
      expect(await gateway().requests()).toEqual([{
        state: "succeeded",
        error_code: null,
        endpoint: "gemini",
      }]);
    });

    test("[gemini.stream] streams, each chunk by itself", async () => {
      const stream = await client().models.generateContentStream({
        model: GEMMA,
        contents: "Write 60 words about a concert",
      });
      const texts: string[] = [];
      let last;
      for await (const chunk of stream) {
        texts.push(chunk.text ?? "");
        last = chunk;
      }
      expect(texts.filter((text) => text !== "").length).toBeGreaterThan(3);
      expect(texts.join("").split(" ")).toHaveLength(60);
      expect(last?.candidates?.[0]?.finishReason).toBe("STOP");
      const [used] = await gateway().sql`select total_tokens from public.token_usage`;
      expect(used?.total_tokens ?? last?.usageMetadata?.totalTokenCount).toBe(
        last?.usageMetadata?.totalTokenCount,
      );
    });

    test("[gemini.leaving] leaves a stream, and the call upstream ends", async () => {
      const leaving = new AbortController();
      const stream = await client().models.generateContentStream({
        model: GEMMA,
        contents: "Write 3000 words about a concert",
        config: { abortSignal: leaving.signal },
      });
      const reading = (async () => {
        for await (const _ of stream) leaving.abort();
      })();
      await expect(reading).rejects.toThrow();
      await leftEarly(gateway());
    });

    test("[gemini.chats] chats", async () => {
      const chat = client().chats.create({ model: GEMMA });
      await chat.sendMessage({ message: "Say concert" });
      const second = await chat.sendMessage({ message: "And what did I say first?" });
      expect(second.text).toContain("Turn of the conversation: 2");
      expect(chat.getHistory()).toHaveLength(4);
    });

    test("[gemini.tools] calls tools in two turns, thought signatures unharmed", async () => {
      const tools = [{
        functionDeclarations: [{
          name: "find_events",
          parameters: { type: Type.OBJECT, properties: { date: { type: Type.STRING } }, required: ["date"] },
        }],
      }];
      const toolConfig = { functionCallingConfig: { mode: FunctionCallingConfigMode.AUTO } };
      const question = { role: "user", parts: [{ text: "Use find_events for 5 мая 2027 года" }] };
      const asked = await client().models.generateContent({
        model: SIGNING,
        contents: [question],
        config: { tools, toolConfig },
      });
      expect(asked.functionCalls).toMatchObject([{ name: "find_events", args: { date: "2027-05-05" } }]);
      const turn = asked.candidates![0]!.content!;
      expect(turn.parts?.some((part) => part.thoughtSignature)).toBe(true);
      // The emulator refuses a call whose signature is not the one it gave.
      const answered = await client().models.generateContent({
        model: SIGNING,
        contents: [question, turn, {
          role: "user",
          parts: [{
            functionResponse: {
              id: asked.functionCalls![0]!.id,
              name: "find_events",
              response: { events: ["Лекция"] },
            },
          }],
        }],
        config: { tools, toolConfig },
      });
      expect(answered.text).toContain("Лекция");
    });

    test("[gemini.schema] gets JSON of a schema", async () => {
      const response = await client().models.generateContent({
        model: GEMMA,
        contents: "Концерт 14 февраля в 19:00 в Доме офицеров, билеты от 600 рублей.",
        config: {
          responseMimeType: "application/json",
          responseSchema: {
            type: Type.OBJECT,
            properties: { date: { type: Type.STRING }, price: { type: Type.STRING } },
            required: ["date", "price"],
          },
        },
      });
      expect(JSON.parse(response.text!)).toEqual({ date: expect.any(String), price: expect.any(String) });
    });

    test("[gemini.images] sends an image", async () => {
      const response = await client().models.generateContent({
        model: GEMMA,
        contents: [{
          parts: [{ text: "What is this?" }, { inlineData: { mimeType: "image/png", data: PNG } }],
        }],
      });
      expect(response.usageMetadata?.promptTokensDetails).toContainEqual(
        expect.objectContaining({ modality: "IMAGE" }),
      );
    });

    test("[gemini.batch-embed] embeds several texts", async () => {
      const response = await client().models.embedContent({
        model: EMBEDDING,
        contents: ["концерт", "лекция", "концерт"],
        config: { taskType: "RETRIEVAL_DOCUMENT", outputDimensionality: 128 },
      });
      const [concert, lecture, again] = response.embeddings!.map(({ values }) => values!);
      expect(concert).toHaveLength(128);
      expect(again).toEqual(concert);
      expect(lecture).not.toEqual(concert);
    });

    test("[gemini.count] counts tokens, which costs nothing", async () => {
      const { totalTokens } = await client().models.countTokens({
        model: GEMMA,
        contents: "Концерт в парке",
      });
      expect(totalTokens).toBeGreaterThan(2);
      expect(await gateway().requests()).toEqual([]);
      expect((await gateway().stats()).received.total).toBe(0);
    });

    test("[gemini.models] lists models in pages, and describes one", async () => {
      const names: (string | undefined)[] = [];
      for await (const model of await client().models.list({ config: { pageSize: 2 } })) {
        names.push(model.name);
      }
      expect(names).toContain(`models/${GEMMA}`);
      expect(names).toContain(`models/${EMBEDDING}`);
      expect(await client().models.get({ model: GEMMA })).toMatchObject({
        name: `models/${GEMMA}`,
        inputTokenLimit: 16_000,
        supportedActions: expect.arrayContaining(["generateContent"]),
      });
      expect((await gateway().stats()).received.total).toBe(0);
    });

    test("[gemini.bad-key] is refused for a bad key, once and for good", async () => {
      let calls = 0;
      const error = await errorOf(
        client({
          retryOptions: { attempts: 3, initialDelay: 0.01 },
          fetch: (...request) => {
            calls++;
            return fetch(...request);
          },
        }, "AIza-not-a-key").models.generateContent({ model: GEMMA, contents: "Hello" }),
      );
      expect(error).toMatchObject({ status: "UNAUTHENTICATED", code: 401 });
      expect(error.details[0]).toMatchObject({ reason: "API_KEY_INVALID" });
      expect(JSON.stringify(error)).not.toContain("AIza-not-a-key");
      expect(calls).toBe(1);
    });

    test("[gemini.invalid] gets what upstream finds wrong", async () => {
      const error = await errorOf(
        client().models.generateContent({ model: GEMMA, contents: "Hello", config: { temperature: 99 } }),
      );
      expect(error).toMatchObject({ code: 400, status: "INVALID_ARGUMENT", message: /temperature/i });
    });

    test("[gemini.quota] comes back after a 429", async () => {
      await gateway().faults(BUSY_FOR_A_SECOND);
      const stopping = await gateway().stoppingClock();
      const statuses: number[] = [];
      const response = await client({
        headers: { "x-eve-mode": "no_wait" },
        retryOptions: { attempts: 4, initialDelay: 0.6, jitter: 0 },
        fetch: async (...request) => {
          const answer = await stopping(...request);
          statuses.push(answer.status);
          return answer;
        },
      }).models.generateContent({ model: GEMMA, contents: "Reply with exactly: yes" });
      expect(response.text).toBe("yes");
      expect(statuses[0]).toBe(429);
      expect(statuses.at(-1)).toBe(200);
    });

    test("[gemini.too-large] gets an error at once for a prompt that can never pass", async () => {
      const error = await errorOf(
        client().models.generateContent({ model: GEMMA, contents: "концерт ".repeat(20_000) }),
      );
      expect(error).toMatchObject({ code: 413, status: "INVALID_ARGUMENT" });
      expect((await gateway().stats()).received.total).toBe(0);
    });

    test("[gemini.blocked] sees a block as Google shows it, and the books know it as one", async () => {
      await gateway().faults({ kind: "safety_block", where: "prompt", reason: "PROHIBITED_CONTENT" });
      const response = await client().models.generateContent({ model: GEMMA, contents: "Hello" });
      expect(response.promptFeedback?.blockReason).toBe("PROHIBITED_CONTENT");
      expect(response.text).toBeUndefined();
      expect(await gateway().requests()).toMatchObject([{ state: "failed", error_code: "content_blocked" }]);
    });

    test("[gemini.stream-error] meets an error in the middle of a stream as an error", async () => {
      await gateway().faults({ kind: "mid_stream_error", afterChunks: 2, error: "overloaded" });
      const texts: string[] = [];
      const reading = (async () => {
        const stream = await client().models.generateContentStream({
          model: GEMMA,
          contents: "Write 200 words about a concert",
        });
        for await (const chunk of stream) texts.push(chunk.text ?? "");
      })();
      await expect(reading).rejects.toMatchObject({ status: 503 });
      expect(texts).toHaveLength(2);
      expect(await gateway().requests()).toMatchObject([{ state: "failed" }]);
    });
  });
}
