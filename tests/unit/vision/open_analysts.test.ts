/** Who looks at pictures and who reads them, as the environment says. */
import { describe, expect, test } from "vitest";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { GatewayRequest } from "../../../shared/contract/request.ts";
import type { EnvironmentModel } from "../../../shared/database/environment_models.ts";
import { systemClock as clock } from "../../../shared/runtime/clock.ts";
import { openAnalysts } from "../../../shared/vision/analysts/open.ts";
import { resultOfText } from "../jobs/result_of_text.ts";
import { FOUND, requestFor } from "./vision_fixture.ts";

function opened(
  environment: Record<string, string> = {},
  know: () => Promise<unknown> = () => Promise.resolve(),
  isDown = false,
) {
  const known: EnvironmentModel[] = [];
  const asked: GatewayRequest[] = [];
  const analysts = openAnalysts({
    read: (name) => environment[name],
    gateway: {
      invoke(request) {
        asked.push(request);
        if (isDown) return Promise.reject(new GatewayError("upstream_unavailable"));
        return Promise.resolve(resultOfText(request, JSON.stringify(FOUND)));
      },
    },
    resolve: (target) =>
      Promise.resolve({
        models: target.kind === "models" ? target.models : [],
        excludeKeys: [],
        stage: null,
      }),
    clock,
    joinLine: () => Promise.resolve({ waitMs: 5_000, leave: () => {} }),
    fetch: () => Promise.reject(new Error("nothing goes out")),
    takeTurn: () => Promise.resolve({ is_taken: true, wait_ms: 0 }),
    know: (model) => {
      known.push(model);
      return know();
    },
  });
  const names = {
    models: analysts.models.map(({ name }) => name),
    ocr: analysts.ocr.map(({ name }) => name),
  };
  return { ...analysts, names, known, asked };
}

test("with nothing set the free tier's models look, and a machine with tesseract reads", () => {
  expect(opened().names).toEqual({
    models: ["model:gemma-4-31b-it", "model:gemini-3.5-flash-lite"],
    ocr: ["tesseract"],
  });
});

test("what is set is in its order", () => {
  const { names, ocr } = opened({
    EVE_VISION_MODELS: "openai/gpt-5-mini, stage:VISION ,gemini-3.5-flash",
    EVE_OCR: "model,tesseract,yandex",
    YANDEX_API_KEY: "k",
    YANDEX_FOLDER_ID: "f",
  });
  expect(names).toEqual({
    models: ["model:openai/gpt-5-mini", "model:stage:VISION", "model:gemini-3.5-flash"],
    ocr: ["ocr_model:openai/gpt-5-mini", "tesseract", "yandex_ocr"],
  });
  expect(ocr.map(({ capabilities }) => [capabilities.readsTextOnly, capabilities.spendsTokens])).toEqual([
    [true, true],
    [true, false],
    [true, false],
  ]);
});

test("whose provider is down is left alone after three calls", async () => {
  const { models: [model], asked } = opened({}, undefined, true);
  const codes: string[] = [];
  for (let call = 0; call < 4; call++) {
    codes.push(await model!.analyse(requestFor()).catch((thrown) => thrown.code));
  }
  expect(codes).toEqual([...Array(3).fill("upstream_unavailable"), "provider_down"]);
  expect(asked).toHaveLength(3);
});

test("Yandex without its key reads nothing", () => {
  expect(opened({ EVE_OCR: "yandex" }).names.ocr).toEqual([]);
});

describe("GigaChat", () => {
  const KEY = { GIGACHAT_CREDENTIALS: "Z2lnYTpjaGF0", EVE_VISION_MODELS: "gemma-4-31b-it" };

  test.each([
    [{}, "GigaChat-2-Pro"],
    [{ GIGACHAT_VISION_MODEL: "GigaChat-Pro" }, "GigaChat-Pro"],
    [{ GIGACHAT_VISION_MODEL: "gigachat/GigaChat-2-Max" }, "GigaChat-2-Max"],
  ])("looks where its key is set: %o", async (more, model) => {
    const { models, known, asked } = opened({ ...KEY, ...more });
    expect(models.map(({ name }) => name)).toEqual(["model:gemma-4-31b-it", `model:gigachat/${model}`]);
    expect(models[1]!.capabilities.mimeTypes.has("image/webp")).toBe(false);
    expect(known).toEqual([]);
    await Promise.all([models[1]!.analyse(requestFor()), models[1]!.analyse(requestFor())]);
    expect(known).toEqual([{ providerKind: "gigachat", model, envVarName: "GIGACHAT_CREDENTIALS" }]);
    expect(asked[0]!.models).toEqual([`gigachat/${model}`]);
  });

  test("is made known again by the next picture, if that failed", async () => {
    let fails = true;
    const { models, known } = opened(
      KEY,
      () => fails ? Promise.reject(new GatewayError("database_unavailable")) : Promise.resolve(),
    );
    await expect(models[1]!.analyse(requestFor())).rejects.toMatchObject({ kind: "no_capacity" });
    fails = false;
    expect((await models[1]!.analyse(requestFor())).provider).toBe("gigachat");
    expect(known).toHaveLength(2);
  });
});

test.each([
  ["EVE_VISION_MODELS", "a model with blanks"],
  ["EVE_VISION_MODELS", Array(11).fill("m").join()],
  ["EVE_OCR", "tesseract,abbyy"],
  ["GIGACHAT_VISION_MODEL", "../x"],
])("%s that makes no sense is named", (name, value) => {
  const wrong = () => opened({ GIGACHAT_CREDENTIALS: "k", [name]: value });
  expect(wrong).toThrow(expect.objectContaining({ detail: expect.stringContaining(name) }));
});
