/** What every provider of text must do, each against a fake of its API that refuses what the real one refuses. */
import { describe, expect, test } from "vitest";
import { type Answer, type Prompt, textOf } from "../../../shared/contract/content.ts";
import { gigachatProvider } from "../../../shared/providers/gigachat/provider.ts";
import type { KeyInspector } from "../../../shared/providers/key_inspector.ts";
import { openaiProvider } from "../../../shared/providers/openai/provider.ts";
import {
  ProviderFailure,
  type ProviderOf,
  type ProviderSettings,
} from "../../../shared/providers/provider.ts";
import { yandexGptProvider } from "../../../shared/providers/yandex/yandexgpt.ts";
import { asFetch } from "../../fakes/fake_api.ts";
import { gigachatEmulator } from "../../../local/gigachat/emulator.ts";
import { fakeOpenAi } from "../../fakes/openai_api.ts";
import { fakeYandex } from "../../fakes/yandex_api.ts";

interface Scene {
  provider: ProviderOf<"text"> & KeyInspector;
  model: string;
  secret: string;
  settings?: ProviderSettings;
  /** What is in the messages that came. */
  // deno-lint-ignore no-explicit-any -- bodies as they were sent.
  lastBody(): any;
  limit(): void;
  /** The next answer: a text that the provider's filter has stopped. */
  filter(): void;
  /** The next answer: a call of the tool `weather` with the city Kaliningrad. */
  callTool(): void;
  offered: string[];
}

const SCENES: Record<string, () => Scene> = {
  OpenAI() {
    const fake = fakeOpenAi();
    return {
      provider: openaiProvider({ baseUrl: "https://openai.test/v1", fetch: asFetch(fake.handler) }),
      model: "openai/gpt-5-mini",
      secret: "sk-good",
      lastBody: () => fake.seen.at(-1)!.body,
      limit: () => fake.keys.set("sk-good", "limited"),
      filter: () =>
        fake.next.push({
          choice: { message: { role: "assistant", content: "" }, finish_reason: "content_filter" },
        }),
      callTool: () =>
        fake.next.push({
          choice: {
            message: {
              role: "assistant",
              content: null,
              tool_calls: [{
                id: "call_abc",
                type: "function",
                function: { name: "weather", arguments: '{"city":"Kaliningrad"}' },
              }],
            },
            finish_reason: "tool_calls",
          },
        }),
      offered: ["gpt-5-mini", "gpt-5", "text-embedding-3-small"],
    };
  },
  GigaChat() {
    const fake = gigachatEmulator();
    return {
      provider: gigachatProvider({
        baseUrl: "https://gigachat.test/api/v1",
        authUrl: "https://ngw.test:9443/api/v2/oauth",
        fetch: asFetch(fake.handler),
      }),
      model: "gigachat/GigaChat-2",
      secret: "Z2lnYTpjaGF0",
      lastBody: () => fake.seen.at(-1),
      limit: () => fake.limited = true,
      filter: () =>
        fake.next.push({ message: { role: "assistant", content: "" }, finish_reason: "blacklist" }),
      callTool: () =>
        fake.next.push({
          message: {
            role: "assistant",
            content: "",
            functions_state_id: "77d3fb14-457a-46ba-937e-8d856156d003",
            function_call: { name: "weather", arguments: { city: "Kaliningrad" } },
          },
          finish_reason: "function_call",
        }),
      offered: ["GigaChat-2", "GigaChat-2-Pro", "Embeddings"],
    };
  },
  YandexGPT() {
    const fake = fakeYandex();
    return {
      provider: yandexGptProvider({ baseUrl: "https://llm.test", fetch: asFetch(fake.handler) }),
      model: "yandexgpt/yandexgpt-lite",
      secret: "AQVN-good",
      settings: { folder_id: "b1gfolder" },
      lastBody: () => fake.seen.at(-1)!.body,
      limit: () => fake.limited = true,
      filter: () =>
        fake.next.push({
          message: { role: "assistant", text: "" },
          status: "ALTERNATIVE_STATUS_CONTENT_FILTER",
        }),
      callTool: () =>
        fake.next.push({
          message: {
            role: "assistant",
            toolCallList: {
              toolCalls: [{ functionCall: { name: "weather", arguments: { city: "Kaliningrad" } } }],
            },
          },
          status: "ALTERNATIVE_STATUS_TOOL_CALLS",
        }),
      offered: ["yandexgpt-lite", "yandexgpt", "yandexgpt/rc"],
    };
  },
};

const HELLO: Prompt = { contents: [{ role: "user", parts: [{ text: "Привет" }] }] };
const TOOLS: Prompt["tools"] = [{
  functionDeclarations: [{
    name: "weather",
    description: "Tells the weather.",
    parameters: { type: "OBJECT", properties: { city: { type: "STRING" } }, required: ["city"] },
  }],
}];

describe.each(Object.entries(SCENES))("%s", (_, scene) => {
  const callOf = (s: Scene, prompt: Prompt = HELLO) => ({
    model: s.model,
    secret: s.secret,
    settings: s.settings,
    prompt,
    signal: new AbortController().signal,
  });
  const failureOf = async (promise: Promise<unknown>): Promise<ProviderFailure> => {
    const thrown = await promise.then(() => null, (error) => error);
    expect(thrown).toBeInstanceOf(ProviderFailure);
    return thrown;
  };
  async function streamed(s: Scene, prompt: Prompt = HELLO) {
    const chunks: Answer[] = [];
    const stream = s.provider.text.stream(callOf(s, prompt));
    for (;;) {
      const step = await stream.next();
      if (step.done) return { chunks, end: step.value };
      chunks.push(step.value.answer);
    }
  }

  test("answers, and reports what it used", async () => {
    const s = scene();
    const { answer, verdict, finishReason, usage } = await s.provider.text.generate(callOf(s));
    expect(textOf(answer)).toContain("Привет");
    expect({ verdict, finishReason }).toEqual({ verdict: { ok: true }, finishReason: "STOP" });
    expect(usage!.inputTokens).toBeGreaterThan(0);
    expect(usage!.totalTokens).toBe(usage!.inputTokens + usage!.outputTokens! + (usage!.thoughtsTokens ?? 0));
    expect(usage!.estimated).toBe(false);
  });

  test("streams only what is new, and ends with what it used", async () => {
    const s = scene();
    const { chunks, end } = await streamed(s);
    expect(chunks.length).toBeGreaterThan(2);
    expect(chunks.map(textOf).join("")).toMatch(/^(You said|Вы сказали): Привет$/);
    expect(end).toMatchObject({ verdict: { ok: true }, finishReason: "STOP" });
    expect(end.usage!.inputTokens).toBeGreaterThan(0);
  });

  test("gets instructions, the turns so far and the settings", async () => {
    const s = scene();
    await s.provider.text.generate(callOf(s, {
      systemInstruction: { parts: [{ text: "Be brief." }] },
      contents: [
        { role: "user", parts: [{ text: "One" }] },
        { role: "model", parts: [{ text: "thinking", thought: true }, { text: "Two" }] },
        { role: "user", parts: [{ text: "Three" }] },
      ],
      generationConfig: { temperature: 1.5, maxOutputTokens: 100, topK: 40 },
    }));
    const { messages } = s.lastBody();
    expect(messages.map(({ role }: { role: string }) => role)).toEqual([
      "system",
      "user",
      "assistant",
      "user",
    ]);
    expect(messages.map((m: { content?: string; text?: string }) => m.content ?? m.text)).toEqual([
      "Be brief.",
      "One",
      "Two",
      "Three",
    ]);
    expect(JSON.stringify(s.lastBody())).toContain("100");
    expect(JSON.stringify(s.lastBody())).not.toContain("opK");
  });

  test("calls a tool and takes its result, whole and as a stream", async () => {
    const s = scene();
    const asked: Prompt = { ...HELLO, tools: TOOLS };
    s.callTool();
    const { answer, verdict, finishReason } = await s.provider.text.generate(callOf(s, asked));
    expect({ verdict, finishReason }).toEqual({ verdict: { ok: true }, finishReason: "STOP" });
    const turn = answer.candidates![0]!.content!;
    expect(turn.parts).toMatchObject([{ functionCall: { name: "weather", args: { city: "Kaliningrad" } } }]);
    expect(JSON.stringify(s.lastBody())).toContain('"type":"object"');
    s.callTool();
    const { chunks } = await streamed(s, asked);
    expect(
      chunks.flatMap((chunk) => chunk.candidates?.[0]?.content?.parts ?? []).filter((p) => p.functionCall),
    )
      .toMatchObject([{ functionCall: { name: "weather", args: { city: "Kaliningrad" } } }]);
    const { verdict: second } = await s.provider.text.generate(callOf(s, {
      ...asked,
      contents: [...HELLO.contents, turn, {
        role: "user",
        parts: [{ functionResponse: { name: "weather", response: { sky: "grey" } } }],
      }],
    }));
    expect(second).toEqual({ ok: true });
    expect(JSON.stringify(s.lastBody())).toContain("grey");
  });

  test("an answer that its filter has stopped is none", async () => {
    const s = scene();
    s.filter();
    expect((await s.provider.text.generate(callOf(s))).verdict).toMatchObject({
      ok: false,
      code: "content_blocked",
    });
    s.filter();
    expect((await streamed(s)).end.verdict).toMatchObject({ ok: false, code: "content_blocked" });
  });

  test("lists its models, and knows a good key", async () => {
    const s = scene();
    const { signal } = new AbortController();
    expect(await s.provider.listModels({ secret: s.secret, settings: s.settings, signal })).toEqual(
      s.offered,
    );
    await s.provider.checkKey({ secret: s.secret, settings: s.settings, signal });
  });

  test("a key that is refused is at fault, wherever it shows, and repeated nowhere", async () => {
    const s = scene();
    const wrong = { ...callOf(s), secret: "d3Jvbmcta2V5" };
    for (
      const asking of [
        () => s.provider.text.generate(wrong),
        () => s.provider.text.stream(wrong).next(),
        () => s.provider.checkKey(wrong),
      ]
    ) {
      const failure = await failureOf(asking());
      expect(failure.diagnosis).toMatchObject({
        fault: "key",
        code: "key_rejected",
        block: { scope: "key", lasts: { until: "forever" } },
      });
      expect(failure.message).not.toContain("d3Jvbmcta2V5");
    }
  });

  test("a model that it does not have is the key's and the model's matter", async () => {
    const s = scene();
    const [kind] = s.model.split("/");
    expect((await failureOf(s.provider.text.generate({ ...callOf(s), model: `${kind}/nope` }))).diagnosis)
      .toMatchObject({
        fault: "key_model",
        code: "model_unavailable",
      });
  });

  test("a limit pauses the lane", async () => {
    const s = scene();
    s.limit();
    expect((await failureOf(s.provider.text.generate(callOf(s)))).diagnosis).toMatchObject({
      fault: "lane",
      retryable: true,
      code: "upstream_rate_limited",
      block: { scope: "lane" },
    });
  });

  test("a part that it cannot carry is refused before anything is sent, or carried", async () => {
    const s = scene();
    const audio = { inlineData: { mimeType: "video/mp4", data: "AAAA" } };
    expect(
      (await failureOf(s.provider.text.generate(callOf(s, { contents: [{ role: "user", parts: [audio] }] }))))
        .diagnosis,
    )
      .toMatchObject({ fault: "caller", code: "unsupported_feature", block: null });
    expect(
      (await failureOf(s.provider.text.generate(callOf(s, { ...HELLO, tools: [{ googleSearch: {} }] }))))
        .diagnosis,
    )
      .toMatchObject({ code: "unsupported_feature" });
  });

  test("a caller who leaves does not wait", async () => {
    const s = scene();
    const gone = new AbortController();
    gone.abort(new DOMException("gone", "AbortError"));
    await expect(s.provider.text.generate({ ...callOf(s), signal: gone.signal })).rejects.toThrow("gone");
    await expect(s.provider.text.stream({ ...callOf(s), signal: gone.signal }).next()).rejects.toThrow(
      "gone",
    );
  });
});
