/** A model looks at a picture through the gateway: what it is asked, what its answer becomes, and how it fails. */
import { describe, expect, test } from "vitest";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { Gateway } from "../../../shared/contract/gateway.ts";
import type { GatewayRequest, InvokeContext } from "../../../shared/contract/request.ts";
import type { GatewayResult } from "../../../shared/contract/result.ts";
import { targetOf } from "../../../shared/stages/stage_name.ts";
import { estimateTokens } from "../../../shared/gateway/estimate/estimate.ts";
import { jsonRequirement } from "../../../shared/gateway/answers/answer_check.ts";
import type { AnalysisRequest, Resolution } from "../../../shared/vision/analyst.ts";
import { modelAnalyst, type ModelAnalystOptions } from "../../../shared/vision/analysts/model.ts";
import { resultOfText } from "../jobs/result_of_text.ts";
import { FOUND, requestFor } from "./vision_fixture.ts";

type Answer = string | GatewayError | { verdict: GatewayResult["verdict"]; text?: string };

/** An analyst whose gateway answers as it is told, call by call. */
function analyst(options: Partial<ModelAnalystOptions> & { model?: string }, ...answers: Answer[]) {
  const asked: { request: GatewayRequest; context: InvokeContext }[] = [];
  const gateway: Pick<Gateway, "invoke"> = {
    invoke(request, context) {
      asked.push({ request, context });
      const answer = answers.shift()!;
      if (answer instanceof GatewayError) return Promise.reject(answer);
      if (typeof answer === "string") return Promise.resolve(resultOfText(request, answer));
      return Promise.resolve({ ...resultOfText(request, answer.text ?? ""), verdict: answer.verdict });
    },
  };
  const model = modelAnalyst({
    gateway,
    resolve: (target) =>
      Promise.resolve({
        models: target.kind === "models" ? target.models : [`stage:${target.stageType}`],
        excludeKeys: ["stage-key"],
        stage: null,
      }),
    clock: { now: () => 77 },
    joinLine: () => Promise.resolve({ waitMs: 5_000, leave: () => {} }),
    target: targetOf([options.model ?? "gemini-3.5-flash"]),
    provider: "google",
    ...options,
  });
  return { model, asked, analyse: (more: Partial<AnalysisRequest> = {}) => model.analyse(requestFor(more)) };
}

describe("the call", () => {
  test("has the picture, the prompt and the schema; batch, by the step's id, in the caller's name, and is not recorded", async () => {
    const { analyse, asked } = analyst({}, JSON.stringify(FOUND));
    const request = requestFor();
    await analyse(request);
    const [{ request: sent, context }] = asked as [typeof asked[0]];
    expect(sent).toMatchObject({
      id: "vision.step-1",
      idIsClients: true,
      class: "batch",
      models: ["gemini-3.5-flash"],
      excludeKeys: ["stage-key"],
      traceId: request.traceId,
      capture: false,
    });
    expect(context).toMatchObject({ caller: request.caller, signal: request.signal, receivedAt: 77 });
    const [image, text] = sent.prompt.contents[0]!.parts!;
    expect(image).toEqual({ inlineData: { mimeType: "image/png", data: "iVBORw==" } });
    expect(text!.text).toContain("never an instruction");
    expect(sent.prompt.generationConfig).toMatchObject({
      mediaResolution: "MEDIA_RESOLUTION_MEDIUM",
      responseMimeType: "application/json",
    });
    expect(jsonRequirement(sent.prompt)!.schema).not.toBeNull();
  });

  test.each<[string, Resolution, string | undefined, string | undefined]>([
    ["gemini-3.5-flash", "low", "MEDIA_RESOLUTION_LOW", undefined],
    ["gemini-3.5-flash", "ultra_high", undefined, "MEDIA_RESOLUTION_ULTRA_HIGH"],
    ["gemini-2.5-flash", "ultra_high", "MEDIA_RESOLUTION_HIGH", undefined],
    ["gemma-4-31b-it", "high", undefined, undefined],
    ["openai/gpt-5-mini", "high", undefined, undefined],
  ])("%s is asked for %s as it knows it", async (name, resolution, inRequest, inPart) => {
    const { analyse, asked } = analyst({ model: name }, JSON.stringify(FOUND));
    await analyse({ resolution });
    const { prompt } = asked[0]!.request;
    expect(prompt.generationConfig?.mediaResolution).toBe(inRequest);
    expect(prompt.contents[0]!.parts![0]!.mediaResolution).toEqual(inPart && { level: inPart });
  });

  test.each<Resolution>(["low", "medium", "high", "ultra_high"])(
    "costs in %s no more than was estimated for it",
    async (resolution) => {
      const { model, analyse, asked } = analyst({}, JSON.stringify(FOUND));
      await analyse({ resolution });
      const { prompt } = asked[0]!.request;
      const most = estimateTokens(prompt) + Number(prompt.generationConfig!.maxOutputTokens);
      const { picture } = requestFor();
      expect(model.estimatedTokens(picture, resolution)).toBeGreaterThanOrEqual(most);
      expect(model.estimatedTokens(picture, resolution)).toBeLessThan(most * 1.2);
    },
  );

  test("once more says what was wrong", async () => {
    const { analyse, asked } = analyst({}, JSON.stringify(FOUND));
    await analyse({ earlierFault: "labels: too many" });
    expect(asked[0]!.request.prompt.contents[0]!.parts![1]!.text).toContain("labels: too many");
  });

  test("that ended without an answer that was kept is another request; one that still runs is waited for", async () => {
    const finished = () => new GatewayError("request_finished");
    // The second id was taken by another model, when the step was its.
    const reused = new GatewayError("request_id_reused");
    const { analyse, asked } = analyst({}, finished(), reused, JSON.stringify(FOUND));
    expect((await analyse()).result).toEqual(FOUND);
    expect(asked.map(({ request }) => request.id)).toEqual([
      "vision.step-1",
      "vision.step-1.2",
      "vision.step-1.3",
    ]);
    const running = analyst({}, new GatewayError("request_running"));
    await expect(running.analyse()).rejects.toMatchObject({ kind: "no_capacity", retryAfterMs: 15_000 });
  });

  test("waits for its start as long as its line says, and leaves the line however it ends", async () => {
    const joined: unknown[] = [];
    let left = 0;
    const joinLine: ModelAnalystOptions["joinLine"] = (caller, models) => {
      joined.push([caller, models]);
      return Promise.resolve({ waitMs: 42_000, leave: () => left++ });
    };
    const busy = new GatewayError("rate_limited", { retryAfterMs: 1_000 });
    const { analyse, asked } = analyst({ joinLine }, JSON.stringify(FOUND), busy);
    await analyse();
    expect(left).toBe(1);
    await expect(analyse()).rejects.toMatchObject({ code: "rate_limited" });
    expect(left).toBe(2);
    expect(asked.map(({ request }) => request.maxWaitMs)).toEqual([42_000, 42_000]);
    expect(joined[0]).toEqual([requestFor().caller, ["gemini-3.5-flash"]]);
  });

  test("is not made for a picture that the provider does not take", async () => {
    const { analyse, asked } = analyst({ provider: "gigachat", model: "gigachat/GigaChat-2-Pro" });
    const { picture } = requestFor();
    for (const more of [{ mimeType: "image/webp" }, { mimeType: "image/gif" }, { sizeBytes: 15_000_001 }]) {
      await expect(analyse({ picture: { ...picture, ...more } })).rejects.toMatchObject({ kind: "refused" });
    }
    expect(asked).toEqual([]);
  });
});

describe("the answer", () => {
  test("is a result with what it cost", async () => {
    const { analyse } = analyst({}, JSON.stringify(FOUND));
    expect(await analyse()).toMatchObject({
      provider: "google",
      result: FOUND,
      fault: null,
      rawText: JSON.stringify(FOUND),
      inputTokens: expect.any(Number),
      replayed: false,
    });
  });

  test("that does not hold is kept with the reason, be it ours or the gateway's", async () => {
    const broken = {
      verdict: { ok: false, code: "schema_mismatch", reason: "x" },
      text: '{"labels":',
    } as const;
    const cut = {
      verdict: { ok: false, code: "answer_truncated", reason: "MAX_TOKENS" },
      text: "{",
    } as const;
    const { analyse } = analyst({}, '{"labels":[]}', broken, cut);
    expect(await analyse()).toMatchObject({ result: null, fault: expect.stringContaining("description") });
    expect(await analyse()).toMatchObject({
      result: null,
      fault: "the answer is not JSON",
      rawText: '{"labels":',
    });
    expect(await analyse()).toMatchObject({ result: null, fault: "answer_truncated: MAX_TOKENS" });
  });

  test("in a fence is one, though the gateway's check takes it for none", async () => {
    const text = "```json\n" + JSON.stringify(FOUND) + "\n```";
    const { analyse } = analyst({}, {
      verdict: { ok: false, code: "schema_mismatch", reason: "no JSON" },
      text,
    });
    expect((await analyse()).result).toEqual(FOUND);
  });

  test("of the filters is a refusal", async () => {
    const { analyse } = analyst({}, { verdict: { ok: false, code: "content_blocked", reason: "SAFETY" } });
    await expect(analyse()).rejects.toMatchObject({
      kind: "refused",
      code: "content_blocked",
      spentTokens: 2,
    });
  });

  test("of one who only reads is the text", async () => {
    const nothing = { verdict: { ok: false, code: "empty_answer", reason: "STOP" } } as const;
    const { analyse, model, asked } = analyst({ task: "ocr" }, "Афиша\n12 мая\n", nothing);
    expect((await analyse()).result).toMatchObject({
      ocr_text: "Афиша\n12 мая",
      is_meme: null,
      confidence: null,
    });
    expect((await analyse()).result).toMatchObject({ ocr_text: "" });
    expect(model.capabilities).toMatchObject({ readsTextOnly: true, spendsTokens: true });
    expect(asked[0]!.request.prompt.generationConfig?.responseJsonSchema).toBeUndefined();
  });
});

test.each([
  [new GatewayError("rate_limited", { retryAfterMs: 9_000 }), "no_capacity", 9_000],
  [new GatewayError("upstream_daily_limit", { retryAfterMs: 60_000 }), "no_capacity", 60_000],
  [new GatewayError("budget_exhausted"), "no_capacity", null],
  [new GatewayError("database_unavailable"), "no_capacity", 5_000],
  [new GatewayError("storage_misconfigured"), "no_capacity", null],
  [new GatewayError("upstream_unavailable"), "retryable", null],
  [new GatewayError("upstream_timeout"), "retryable", null],
  [new GatewayError("upstream_invalid_request"), "refused", null],
  [new GatewayError("unknown_model"), "refused", null],
])(
  "%s: the analyst says whether to wait, to try again or to ask another",
  async (error, kind, retryAfterMs) => {
    const { analyse } = analyst({}, error);
    await expect(analyse()).rejects.toMatchObject({
      name: "AnalysisFailure",
      kind,
      code: error.code,
      retryAfterMs,
    });
  },
);

test("an analysis that is broken off fails as such, and not as the provider's fault", async () => {
  const gone = new AbortController();
  const { analyse } = analyst({}, new GatewayError("client_closed"));
  const { picture } = requestFor();
  const bytes = () => {
    gone.abort(new DOMException("gone", "AbortError"));
    return picture.bytes(gone.signal);
  };
  await expect(analyse({ signal: gone.signal, picture: { ...picture, bytes } })).rejects.toThrow("gone");
});
