/** Answers as the providers' references show them (tests/fixtures), read into the contract. */
import { expect, test } from "vitest";
import { CHECKOUT } from "../../../local/paths.ts";
import { type Answer, textOf } from "../../../shared/contract/content.ts";
import { judgeAnswer, usageOf } from "../../../shared/contract/answer_verdict.ts";
import { answerOfCompletion } from "../../../shared/providers/openai/answer.ts";
import { pikaProvider } from "../../../shared/providers/pika.ts";
import { speechKitProvider } from "../../../shared/providers/yandex/speechkit.ts";
import { sunoProvider } from "../../../shared/providers/suno.ts";
import { answerOfResult } from "../../../shared/providers/yandex/yandexgpt_answer.ts";
import { asFetch } from "../../fakes/fake_api.ts";

// deno-lint-ignore no-explicit-any -- bodies as they are documented.
const body = (path: string): any =>
  JSON.parse(Deno.readTextFileSync(`${CHECKOUT}/tests/fixtures/${path}.json`));
const READERS: Record<string, (path: string) => Answer> = {
  openai: (path) => answerOfCompletion(body(path)),
  gigachat: (path) => answerOfCompletion(body(path)),
  yandexgpt: (path) => answerOfResult(body(path).result),
};

test.each([
  ["openai/completion", "Hello! How can I assist you today?", { ok: true }, [19, 10, 29]],
  ["openai/refusal", "", { ok: false, code: "content_blocked" }, [81, 11, 92]],
  ["openai/tool_calls", "", { ok: true }, [82, 17, 99]],
  ["gigachat/completion", "Здравствуйте! Чем могу помочь?", { ok: true }, [1, 4, 5]],
  ["gigachat/function_call", "", { ok: true }, [150, 36, 186]],
  ["gigachat/blacklist", /Не люблю/, { ok: false, code: "content_blocked" }, [12, 14, 26]],
  ["yandexgpt/completion", /^Ламинат/, { ok: true }, [67, 50, 117]],
  ["yandexgpt/tool_calls", "", { ok: true }, [77, 12, 89]],
  ["yandexgpt/content_filter", /В интернете/, { ok: false, code: "content_blocked" }, [22, 13, 35]],
])("%s", (path, text, verdict, [input, output, total]) => {
  const answer = READERS[path.split("/")[0]!]!(path);
  if (typeof text === "string") expect(textOf(answer)).toBe(text);
  else expect(textOf(answer)).toMatch(text);
  expect(judgeAnswer(answer)).toMatchObject(verdict);
  expect(usageOf(answer)).toMatchObject({ inputTokens: input, outputTokens: output, totalTokens: total });
});

test("a cut-off answer says that it is", () => {
  expect(answerOfResult(body("yandexgpt/completion").result).candidates![0]!.finishReason).toBe("MAX_TOKENS");
});

test("calls of tools come with their arguments, and what is to be sent back with the result", () => {
  const call = (path: string) => READERS[path.split("/")[0]!]!(path).candidates![0]!.content!.parts![0];
  expect(call("openai/tool_calls")).toEqual({
    functionCall: { id: "call_abc123", name: "get_current_weather", args: { location: "Boston, MA" } },
  });
  expect(call("gigachat/function_call")).toEqual({
    functionCall: { name: "weather_forecast", args: { location: "Манжерок", num_days: 10 } },
    thoughtSignature: "77d3fb14-457a-46ba-937e-8d856156d003",
  });
  expect(call("yandexgpt/tool_calls")).toEqual({
    functionCall: { name: "calculator", args: { expression: "7+8" } },
  });
});

const inquiry = { secret: "key", signal: new AbortController().signal };

test("a song and a video that are there", async () => {
  const suno = sunoProvider({ fetch: asFetch(() => Response.json(body("suno/record_info"))), now: () => 0 });
  expect(await suno.jobs!.poll({ ...inquiry, model: "suno/V4_5", upstreamId: "5c79" })).toMatchObject({
    state: "succeeded",
    files: [{ url: "https://cdn.example/8551662c.mp3", title: "Iron Man", durationS: 198.44 }],
  });
  const pika = pikaProvider({
    fetch: asFetch(({ url }) => Response.json(body(url.endsWith("/status") ? "pika/status" : "pika/result"))),
    now: () => 0,
  });
  expect(
    await pika.jobs!.poll({ ...inquiry, model: "pika/fal-ai/pika/v2.2/text-to-video", upstreamId: "80e7" }),
  )
    .toMatchObject({
      state: "succeeded",
      files: [{ mimeType: "video/mp4", url: expect.stringContaining(".mp4") }],
    });
});

test("a refusal of SpeechKit", async () => {
  const provider = speechKitProvider({
    fetch: asFetch(() => Response.json(body("speechkit/unauthorized"), { status: 401 })),
  });
  await expect(provider.checkKey(inquiry)).rejects.toMatchObject({ diagnosis: { fault: "key" } });
});
