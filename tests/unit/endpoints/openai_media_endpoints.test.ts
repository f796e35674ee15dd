/** Legacy completions, moderations, transcriptions and pictures. */
import { describe, expect, test } from "vitest";
import type { Part } from "../../../shared/contract/content.ts";
import type { GatewayRequest } from "../../../shared/contract/request.ts";
import type { GatewayResult } from "../../../shared/contract/result.ts";
import type { OpenaiEndpointOptions } from "../../../shared/endpoints/openai/endpoint.ts";
import { RESULT } from "./router_fixture.ts";
import { framesOf, resultOf, streaming, testOpenai } from "./openai_fixture.ts";

/** The endpoint before a model that answers so. */
function answering(result: GatewayResult, more: Partial<OpenaiEndpointOptions> = {}) {
  const router = testOpenai(
    {
      invoke: (request) => {
        router.asked.push(request);
        return Promise.resolve(result);
      },
    },
    undefined,
    more,
  );
  return router;
}
const said = (...parts: Part[]) => resultOf([{ content: { parts }, finishReason: "STOP" }]);

describe("[openai.completions] a legacy completion", () => {
  const complete = (router: ReturnType<typeof testOpenai>, more: Record<string, unknown> = {}) =>
    router.ask("/completions", { model: RESULT.model, prompt: "Once", ...more });

  test("is what a user asks, without the thoughts", async () => {
    const router = answering(RESULT);
    const body = await (await complete(router, { prompt: ["Once"], echo: true, max_tokens: 9, best_of: 1 }))
      .json();
    expect(body).toMatchObject({
      object: "text_completion",
      choices: [{ text: "OnceКонцерт", index: 0, logprobs: null, finish_reason: "stop" }],
      usage: { total_tokens: 14 },
    });
    expect(router.asked[0]?.prompt).toEqual({
      contents: [{ role: "user", parts: [{ text: "Once" }] }],
      generationConfig: { maxOutputTokens: 9 },
    });
  });

  test("of several prompts is a call for each, and their choices in order", async () => {
    const asked: GatewayRequest[] = [];
    const router = testOpenai({
      invoke: (request) => {
        asked.push(request);
        const { prompt } = request;
        const words = prompt.contents[0]!.parts!.map(({ text }) => text).join();
        return Promise.resolve(
          resultOf([{ content: { parts: [{ text: `-${words}` }] }, finishReason: "STOP" }]),
        );
      },
    });
    const response = await complete(router, { prompt: ["a", "b"], echo: true, temperature: 0 });
    expect(await response.json()).toMatchObject({
      choices: [{ index: 0, text: "a-a" }, { index: 1, text: "b-b" }],
      usage: { total_tokens: 28 },
    });
    expect(asked.map(({ id }) => id.slice(-2))).toEqual([".1", ".2"]);
    expect(asked.map(({ prompt }) => prompt.generationConfig?.temperature)).toEqual([0, 0]);
  });

  test("streams", async () => {
    const piece = (...parts: Part[]) => [{ content: { parts } }];
    const source = streaming([
      piece({ text: "Hm", thought: true }),
      piece({ text: "a" }),
      piece({ text: "b" }),
    ], RESULT);
    const response = await complete(testOpenai(source), {
      stream: true,
      stream_options: { include_usage: true },
    });
    expect(response.headers.get("x-ratelimit-limit-requests")).toBe("30");
    expect(await framesOf(response)).toMatchObject([
      { object: "text_completion", choices: [{ text: "a", finish_reason: null }] },
      { choices: [{ text: "b" }] },
      { choices: [{ text: "", finish_reason: "stop" }] },
      { choices: [], usage: { total_tokens: 14 } },
      "[DONE]",
    ]);
  });

  test.each([
    ["prompt[0]", { prompt: [1, 2] }],
    ["prompt[1]", { prompt: ["a", ""] }],
    ["prompt", { prompt: [] }],
    ["prompt", { prompt: Array(21).fill("a") }],
    ["stream", { prompt: ["a", "b"], stream: true }],
    ["suffix", { suffix: "end" }],
    ["logprobs", { logprobs: 1 }],
    ["best_of", { best_of: 3 }],
    ["temperature", { temperature: 3 }],
  ])("refuses %s by name", async (param, more) => {
    const response = await complete(answering(RESULT), more);
    expect([response.status, (await response.json()).error.param]).toEqual([400, param]);
  });
});

describe("[openai.moderations] moderations", () => {
  const scores = (more: Record<string, number>) => ({ violence: 0.1, ...more });
  const judged = (...results: Record<string, number>[]) => said({ text: JSON.stringify({ results }) });

  test("are judged by the model that is set, each text by itself", async () => {
    const router = answering(judged(scores({}), scores({ hate_threatening: 0.9 })), {
      moderationModel: "judge",
    });
    const body =
      await (await router.ask("/moderations", { input: ["a", "b"], model: "omni-moderation-latest" })).json();
    expect(body.results).toMatchObject([
      { flagged: false, category_scores: { violence: 0.1 } },
      { flagged: true, categories: { "hate/threatening": true, "hate": false } },
    ]);
    expect(router.asked[0]).toMatchObject({ models: ["judge"], schemaRepair: true });
    expect(JSON.stringify(router.asked[0]?.prompt.contents)).toContain("Input 2:");
  });

  test("of a picture, by a model of the gateway's that is named", async () => {
    const router = answering(judged(scores({})));
    const url = "data:image/png;base64,iVBORw0=";
    const input = [{ type: "text", text: "a" }, { type: "image_url", image_url: { url } }];
    const { results } = await (await router.ask("/moderations", { model: "gemma", input })).json();
    expect(results[0].category_applied_input_types.violence).toEqual(["text", "image"]);
    expect(router.asked[0]?.prompt.contents[0]?.parts).toContainEqual({
      inlineData: { mimeType: "image/png", data: "iVBORw0=" },
    });
  });

  test.each([[{}], [{ model: "omni-moderation-latest" }]])(
    "are refused in words where nobody is set: %j",
    async (more) => {
      const response = await answering(RESULT).ask("/moderations", { input: "a", ...more });
      expect([response.status, (await response.json()).error]).toEqual([
        400,
        expect.objectContaining({ param: "model", message: expect.stringContaining("EVE_MODERATION_MODEL") }),
      ]);
    },
  );

  test("of which the model leaves one out are an error", async () => {
    const response = await answering(judged(scores({}))).ask("/moderations", {
      model: "m",
      input: ["a", "b"],
    });
    expect([response.status, (await response.json()).error.code]).toEqual([502, "schema_mismatch"]);
  });
});

describe("[openai.transcriptions] transcriptions", () => {
  const transcribe = (
    router: ReturnType<typeof testOpenai>,
    more: Record<string, string> = {},
    file: File | null = new File([new Uint8Array([1, 2, 3])], "a.m4a"),
  ) => {
    const form = new FormData();
    if (file !== null) form.set("file", file);
    for (const [name, value] of Object.entries({ model: RESULT.model, ...more })) form.set(name, value);
    return router.receive(
      new Request("http://gateway/llm-invoke/openai/v1/audio/transcriptions", { method: "POST", body: form }),
    );
  };

  test("send the recording with its language and its words", async () => {
    const router = answering(RESULT);
    const response = await transcribe(router, { language: "ru", prompt: "Форма", chunking_strategy: "auto" });
    expect(await response.json()).toMatchObject({
      text: "Концерт",
      usage: { type: "tokens", total_tokens: 14 },
    });
    expect(response.headers.get("x-eve-ignored")).toBe("chunking_strategy");
    const [recording, words] = router.asked[0]?.prompt.contents[0]?.parts ?? [];
    expect(recording).toEqual({ inlineData: { mimeType: "audio/mp4", data: "AQID" } });
    expect(words?.text).toMatch(/language is ru.*Форма/);
  });

  test("as text, and of silence", async () => {
    const text = await transcribe(answering(RESULT), { response_format: "text" });
    expect([text.headers.get("content-type"), await text.text()]).toEqual([
      "text/plain; charset=utf-8",
      "Концерт\n",
    ]);
    const silence = resultOf([{ finishReason: "STOP" }], {
      verdict: { ok: false, code: "empty_answer", reason: "STOP" },
    });
    expect((await (await transcribe(answering(silence))).json()).text).toBe("");
  });

  test.each<[string, Record<string, string>, (File | null)?]>([
    ["file", {}, null],
    ["file", {}, new File(["x"], "a.txt", { type: "application/octet-stream" })],
    ["response_format", { response_format: "srt" }],
    ["stream", { stream: "true" }],
    ["timestamp_granularities[]", { "timestamp_granularities[]": "word" }],
  ])("refuse %s by name", async (param, more, file) => {
    const response = await transcribe(answering(RESULT), more, file);
    expect([response.status, (await response.json()).error.param]).toEqual([400, param]);
  });
});

describe("[openai.images] pictures", () => {
  const draw = (router: ReturnType<typeof testOpenai>, more: Record<string, unknown> = {}) =>
    router.ask("/images/generations", { model: "gemini-image", prompt: "A cat", ...more });
  const inlineData = { mimeType: "image/png", data: "iVBORw0=" };

  test("come as base64, in the nearest shape", async () => {
    const router = answering(said({ text: "Here" }, { inlineData }));
    const response = await draw(router, { size: "1792x1024", quality: "high", n: 1 });
    expect(await response.json()).toMatchObject({ data: [{ b64_json: "iVBORw0=" }], output_format: "png" });
    expect(response.headers.get("x-eve-ignored")).toBe("quality");
    expect(router.asked[0]?.prompt.generationConfig).toEqual({
      responseModalities: ["TEXT", "IMAGE"],
      imageConfig: { aspectRatio: "16:9" },
    });
  });

  test("are refused in words by a model that makes none", async () => {
    const response = await draw(answering(RESULT));
    expect([response.status, (await response.json()).error.message]).toEqual([
      400,
      expect.stringContaining("made no picture"),
    ]);
  });

  test.each([["n", { n: 2 }], ["size", { size: "big" }], ["response_format", { response_format: "url" }]])(
    "refuse %s by name",
    async (param, more) => {
      const response = await draw(answering(RESULT), more);
      expect([response.status, (await response.json()).error.param]).toEqual([400, param]);
    },
  );
});
