/** `@google/generative-ai`, Google's client before, which much code still uses. */
import {
  FunctionCallingMode,
  GoogleGenerativeAI,
  GoogleGenerativeAIFetchError,
  GoogleGenerativeAIResponseError,
  type ModelParams,
  SchemaType,
} from "@google/generative-ai";
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

export function googleGenerativeAi(gateway: () => TestGateway): void {
  const model = (
    params: ModelParams = { model: GEMMA },
    headers: Record<string, string> = {},
    key = gateway().key,
  ) =>
    new GoogleGenerativeAI(key).getGenerativeModel(params, {
      baseUrl: gateway().baseUrl,
      customHeaders: headers,
    });
  const refusal = async (answer: Promise<unknown>): Promise<GoogleGenerativeAIFetchError> => {
    const error = await answer.then(
      () => expect.unreachable(),
      (thrown) => thrown as GoogleGenerativeAIFetchError,
    );
    expect(error).toBeInstanceOf(GoogleGenerativeAIFetchError);
    return error;
  };
  /** Of a model whose thoughts stay hidden, or this client would count them to the text. */
  const QUIET = { model: "gemini-3.5-flash-lite" };

  describe("@google/generative-ai", () => {
    test("[gemini.generate] generates", async () => {
      const { response } = await model(QUIET).generateContent("Reply with exactly: концерт");
      expect(response.text()).toBe("концерт");
      expect(response.usageMetadata?.totalTokenCount).toBeGreaterThan(0);
    });

    test("[gemini.stream] streams, and puts the whole together", async () => {
      const { stream, response } = await model(QUIET).generateContentStream("Write 60 words about a concert");
      let chunks = 0;
      for await (const _ of stream) chunks++;
      expect(chunks).toBeGreaterThan(3);
      expect((await response).text().split(" ")).toHaveLength(60);
    });

    test("[gemini.leaving] leaves a stream, and the call upstream ends", async () => {
      const leaving = new AbortController();
      const { stream, response } = await model(QUIET).generateContentStream(
        "Write 3000 words about a concert",
        { signal: leaving.signal },
      );
      response.catch(() => {});
      const reading = (async () => {
        for await (const _ of stream) leaving.abort();
      })();
      await expect(reading).rejects.toThrow();
      await leftEarly(gateway());
    });

    test("[gemini.tools] chats, calling tools in two turns with their signatures", async () => {
      const chat = model({
        model: SIGNING,
        tools: [{
          functionDeclarations: [{
            name: "find_events",
            parameters: {
              type: SchemaType.OBJECT,
              properties: { date: { type: SchemaType.STRING } },
              required: ["date"],
            },
          }],
        }],
        toolConfig: { functionCallingConfig: { mode: FunctionCallingMode.AUTO } },
      }).startChat();
      const asked = await chat.sendMessage("Use find_events for 5 мая 2027 года");
      expect(asked.response.functionCalls()).toMatchObject([{ name: "find_events" }]);
      const answered = await chat.sendMessage([{
        functionResponse: { name: "find_events", response: { events: ["Лекция"] } },
      }]);
      expect(answered.response.text()).toContain("Лекция");
    });

    test("[gemini.schema] gets JSON of a schema", async () => {
      const { response } = await model({
        ...QUIET,
        generationConfig: {
          responseMimeType: "application/json",
          responseSchema: {
            type: SchemaType.OBJECT,
            properties: { title: { type: SchemaType.STRING } },
            required: ["title"],
          },
        },
      }).generateContent("Концерт в парке");
      expect(JSON.parse(response.text())).toEqual({ title: expect.any(String) });
    });

    test("[gemini.images] sends an image", async () => {
      const { response } = await model(QUIET).generateContent([
        "What is this?",
        { inlineData: { mimeType: "image/png", data: PNG } },
      ]);
      expect(response.usageMetadata).toMatchObject({
        promptTokensDetails: expect.arrayContaining([expect.objectContaining({ modality: "IMAGE" })]),
      });
    });

    test("[gemini.embed] embeds one text, and a batch", async () => {
      const { embedding } = await model({ model: EMBEDDING }).embedContent("концерт");
      const batch = await model({ model: EMBEDDING }).batchEmbedContents({
        requests: ["концерт", "лекция"].map((text) => ({ content: { role: "user", parts: [{ text }] } })),
      });
      expect(batch.embeddings).toHaveLength(2);
      expect(batch.embeddings[0]!.values).toEqual(embedding.values);
    });

    test("[gemini.count] counts tokens", async () => {
      expect((await model().countTokens("Концерт в парке")).totalTokens).toBeGreaterThan(2);
    });

    test("[gemini.bad-key] is refused for a bad key", async () => {
      const error = await refusal(model(QUIET, {}, "AIza-not-a-key").generateContent("Hello"));
      expect(error.status).toBe(401);
      expect(error.errorDetails?.[0]).toMatchObject({ reason: "API_KEY_INVALID" });
      expect(error.message).not.toContain("AIza-not-a-key");
    });

    test("[gemini.quota] reads from a 429 when to come back", async () => {
      await gateway().faults(BUSY_FOR_A_SECOND);
      await gateway().stoppingClock();
      const error = await refusal(
        model({ model: GEMMA }, { "x-eve-mode": "no_wait" }).generateContent("Hello"),
      );
      expect(error.status).toBe(429);
      expect(error.errorDetails).toContainEqual({
        "@type": "type.googleapis.com/google.rpc.RetryInfo",
        retryDelay: expect.stringMatching(/^[1-5]s$/),
      });
      expect(error.errorDetails).toContainEqual(
        expect.objectContaining({ "@type": "type.googleapis.com/google.rpc.QuotaFailure" }),
      );
    });

    test("[gemini.blocked] throws for a block when the text is asked for", async () => {
      await gateway().faults({ kind: "safety_block", where: "candidate", reason: "SAFETY" });
      const { response } = await model(QUIET).generateContent("Hello");
      expect(() => response.text()).toThrow(GoogleGenerativeAIResponseError);
    });
  });
}
