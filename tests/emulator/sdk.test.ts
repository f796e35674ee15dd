/** The emulator as Google's own JavaScript SDK sees it. */
import { GoogleGenerativeAI, GoogleGenerativeAIFetchError, SchemaType } from "@google/generative-ai";
import { afterEach, expect, test } from "vitest";
import { emulator, GEMMA, KEY, stopAll } from "./fixture.ts";

afterEach(stopAll);

function sdk(url: string, model = GEMMA, key = KEY) {
  return new GoogleGenerativeAI(key).getGenerativeModel({ model }, { baseUrl: url });
}

test("an event announcement comes back as its title, date, place and price", async () => {
  const one = await emulator();
  const { response } = await sdk(one.url).generateContent({
    contents: [{
      role: "user",
      parts: [{
        text:
          "Извлеки из анонса название, дату, место и цену.\n\nДрузья! 12 декабря 2026 года в 20:00 в баре " +
          "«Типография» пройдёт концерт группы «Медленный бульвар». Вход 800 ₽.",
      }],
    }],
    generationConfig: {
      responseMimeType: "application/json",
      responseSchema: {
        type: SchemaType.OBJECT,
        properties: {
          title: { type: SchemaType.STRING },
          date: { type: SchemaType.STRING },
          place: { type: SchemaType.STRING },
          price: { type: SchemaType.NUMBER },
        },
        required: ["title", "date", "place", "price"],
      },
    },
  });
  const parts = response.candidates![0]!.content.parts as { text: string; thought?: boolean }[];
  expect(JSON.parse(parts.filter((part) => !part.thought).map((part) => part.text).join(""))).toEqual({
    title: "Концерт группы «Медленный бульвар»",
    date: "2026-12-12T20:00",
    place: "Бар «Типография»",
    price: 800,
  });
});

test("usage adds up, and thoughts are in it but not in the answer's count", async () => {
  const one = await emulator();
  const { response } = await sdk(one.url).generateContent("Say hi");
  const usage = response.usageMetadata as unknown as Record<string, number>;
  expect(usage.promptTokenCount).toBeGreaterThan(0);
  expect(usage.thoughtsTokenCount).toBeGreaterThan(0);
  expect(usage.totalTokenCount).toBe(
    usage.promptTokenCount! + usage.candidatesTokenCount! + usage.thoughtsTokenCount!,
  );
  expect(one.control.stats().lastAdmitted[0]!.tokens).toBe(usage.promptTokenCount);
});

test("a stream is the whole answer in pieces", async () => {
  const one = await emulator();
  const asked = "Напиши 60 слов про море";
  const whole = await sdk(one.url, "gemini-2.5-flash").generateContent(asked);
  const { stream, response } = await sdk(one.url, "gemini-2.5-flash").generateContentStream(asked);
  let text = "";
  let count = 0;
  for await (const chunk of stream) {
    text += chunk.text();
    count++;
  }
  expect(count).toBeGreaterThan(3);
  expect(text).toBe(whole.response.text());
  expect((await response).candidates![0]!.finishReason).toBe("STOP");
  expect((await response).usageMetadata).toEqual(whole.response.usageMetadata);
});

test("tokens, embeddings and batches", async () => {
  const one = await emulator();
  const counted = await sdk(one.url).countTokens("The quick brown fox");
  expect(counted.totalTokens).toBeGreaterThanOrEqual(4);
  const model = sdk(one.url, "gemini-embedding-001");
  const embed = async (text: string) => (await model.embedContent(text)).embedding.values;
  const [concert, concerts, invoice] = await Promise.all([
    embed("a jazz concert on the roof"),
    embed("jazz concerts on a roof"),
    embed("invoice number 42 is overdue"),
  ]);
  const dot = (a: number[], b: number[]) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
  expect(concert).toHaveLength(3_072);
  expect(dot(concert!, concert!)).toBeCloseTo(1, 4);
  expect(dot(concert!, concerts!)).toBeGreaterThan(2 * dot(concert!, invoice!));
  const batch = await model.batchEmbedContents({
    requests: ["one", "two"].map((text) => ({ content: { role: "user", parts: [{ text }] } })),
  });
  expect(batch.embeddings).toHaveLength(2);
  // The batch was charged as two requests.
  expect(one.control.stats().lanes.find((lane) => lane.model === "gemini-embedding-001")!.today).toBe(5);
});

test("a function is called, signed, and its response answered", async () => {
  const one = await emulator();
  const model = new GoogleGenerativeAI(KEY).getGenerativeModel({
    model: "gemini-3.5-flash",
    tools: [{
      functionDeclarations: [{
        name: "find_events",
        description: "Events on a day",
        parameters: {
          type: SchemaType.OBJECT,
          properties: { date: { type: SchemaType.STRING }, city: { type: SchemaType.STRING } },
          required: ["date"],
        },
      }],
    }],
  }, { baseUrl: one.url });
  const chat = model.startChat();
  const asked = await chat.sendMessage("Use find_events for 5 мая 2027 года");
  expect(asked.response.functionCalls()).toMatchObject([{
    name: "find_events",
    args: { date: "2027-05-05" },
  }]);
  const part = asked.response.candidates![0]!.content.parts[0]! as { thoughtSignature?: string };
  expect(part.thoughtSignature).toBeTruthy();
  const answered = await chat.sendMessage([{
    functionResponse: { name: "find_events", response: { events: ["Лекция"] } },
  }]);
  expect(answered.response.text()).toContain("Лекция");
});

test("the SDK turns a refusal into its own error with the details", async () => {
  const one = await emulator({ models: [{ name: GEMMA, limits: { rpm: 1 } }] });
  const model = sdk(one.url);
  await model.generateContent("one");
  const error = await model.generateContent("two").catch((thrown) => thrown);
  expect(error).toBeInstanceOf(GoogleGenerativeAIFetchError);
  expect(error.status).toBe(429);
  expect(error.errorDetails.map((detail: { "@type": string }) => detail["@type"].split(".").pop())).toEqual([
    "Help",
    "QuotaFailure",
    "RetryInfo",
  ]);
});
