import type { Gateway } from "../../contract/gateway.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { ResolveTarget } from "../../contract/target.ts";
import { type EnvironmentModel } from "../../database/environment_models.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { ReadVariable } from "../../runtime/settings.ts";
import { targetOf } from "../../stages/stage_name.ts";
import type { Analyst } from "../analyst.ts";
import { withBreaker } from "./breaker.ts";
import { type JoinLine, modelAnalyst } from "./model.ts";
import { type OcrQueue, queuedTesseractAnalyst } from "./queued_tesseract.ts";
import { tesseractAnalyst, type TesseractProgram } from "./tesseract.ts";
import { type TakeTurn, yandexOcrAnalyst, yandexOcrOptions } from "./yandex_ocr.ts";

/** Which models look at pictures, in order of preference, by their names in the gateway; with commas between them. */
export const VISION_MODELS_VARIABLE = "EVE_VISION_MODELS";
/** The free tier's largest quota by far, and one that goes on when it is used up. */
const DEFAULT_MODELS = "gemma-4-31b-it,gemini-3.5-flash-lite";

/** Which ways of OCR there are, in order of preference, with commas between them. */
export const OCR_VARIABLE = "EVE_OCR";
export const OCR_WAYS = ["yandex", "tesseract", "model"] as const;
/** What costs no tokens. */
const DEFAULT_OCR = "yandex,tesseract";

export const GIGACHAT_VISION_MODEL_VARIABLE = "GIGACHAT_VISION_MODEL";
const GIGACHAT_KEY_VARIABLE = "GIGACHAT_CREDENTIALS";
/** The older `GigaChat-Pro` is understood as well: it is a name like any other. */
const DEFAULT_GIGACHAT_MODEL = "GigaChat-2-Pro";

const MOST_MODELS = 10;
const MODEL_NAME = /^[A-Za-z0-9][\w.:/-]{0,99}$/;

export interface AnalystsOptions {
  read: ReadVariable;
  gateway: Pick<Gateway, "invoke">;
  resolve: ResolveTarget;
  clock: Clock;
  joinLine: JoinLine;
  fetch: typeof fetch;
  takeTurn: TakeTurn;
  /** Lets admission know a model whose key is in the environment. */
  know: (model: EnvironmentModel) => Promise<unknown>;
  /** Of this machine; null: there is none. */
  tesseract?: TesseractProgram | null;
  /** Where pictures wait for a machine that has it. Absent: they wait where they are. */
  ocrQueue?: OcrQueue;
}

export interface Analysts {
  /** Who looks at pictures, in order of preference. */
  models: Analyst[];
  /** Who reads text, in order of preference; empty: nobody is set up to. */
  ocr: Analyst[];
}

/**
 * All who can find out what a picture shows, as the environment says.
 * @throws GatewayError `gateway_misconfigured`, its detail naming the variable that is wrong
 */
export function openAnalysts(options: AnalystsOptions): Analysts {
  const { read, gateway, resolve, clock, joinLine, fetch } = options;
  const names = listOf(read, VISION_MODELS_VARIABLE, DEFAULT_MODELS);
  if (names.length > MOST_MODELS || !names.every((name) => MODEL_NAME.test(name))) {
    throw wrong(VISION_MODELS_VARIABLE, `must be up to ${MOST_MODELS} names of models`);
  }
  const models = names.map((name) =>
    modelAnalyst({ gateway, resolve, clock, joinLine, target: targetOf([name]), provider: providerOf(name) })
  );
  const gigachat = gigachatModel(options);
  if (gigachat !== null) models.push(gigachat);
  const ways = listOf(read, OCR_VARIABLE, DEFAULT_OCR);
  const ocr = ways.flatMap((way): Analyst[] => {
    switch (way) {
      case "yandex": {
        const set = yandexOcrOptions(read, fetch);
        return set === null ? [] : [yandexOcrAnalyst(set, options.takeTurn, clock)];
      }
      case "tesseract":
        return [
          options.tesseract || options.ocrQueue === undefined
            ? tesseractAnalyst(options.tesseract ?? null)
            : queuedTesseractAnalyst(options.ocrQueue),
        ];
      case "model": {
        const [name] = names;
        if (name === undefined) return [];
        const target = targetOf([name]);
        const provider = providerOf(name);
        return [modelAnalyst({ gateway, resolve, clock, joinLine, target, provider, task: "ocr" })];
      }
    }
    throw wrong(OCR_VARIABLE, `must be of ${OCR_WAYS.join(", ")}`);
  });
  const guarded = (analyst: Analyst) => withBreaker(analyst, clock);
  return { models: models.map(guarded), ocr: ocr.map(guarded) };
}

/** GigaChat looks at pictures where its key is in the environment. */
function gigachatModel({ read, gateway, resolve, clock, joinLine, know }: AnalystsOptions): Analyst | null {
  if (!read(GIGACHAT_KEY_VARIABLE)?.trim()) return null;
  const model = (read(GIGACHAT_VISION_MODEL_VARIABLE)?.trim() || DEFAULT_GIGACHAT_MODEL).replace(
    /^gigachat\//,
    "",
  );
  if (!MODEL_NAME.test(model)) throw wrong(GIGACHAT_VISION_MODEL_VARIABLE, "must be a model's name");
  let known: Promise<unknown> | null = null;
  return modelAnalyst({
    gateway,
    // Its rows are made at its first picture: most instances never see one.
    resolve: async (target, caller) => {
      known ??= know({ providerKind: "gigachat", model, envVarName: GIGACHAT_KEY_VARIABLE }).catch(
        (thrown) => {
          known = null;
          throw thrown;
        },
      );
      await known;
      return await resolve(target, caller);
    },
    clock,
    joinLine,
    target: { kind: "models", models: [`gigachat/${model}`] },
    provider: "gigachat",
  });
}

/** A model's limits by its name; of a stage nobody knows who serves it, and all that may take JPEG and PNG. */
function providerOf(name: string): "google" | "openai" | "gigachat" {
  if (name.startsWith("gigachat/")) return "gigachat";
  return name.startsWith("openai/") ? "openai" : "google";
}

function listOf(read: ReadVariable, name: string, fallback: string): string[] {
  return (read(name)?.trim() || fallback).split(",").map((one) => one.trim()).filter((one) => one !== "");
}

function wrong(name: string, what: string): GatewayError {
  return new GatewayError("gateway_misconfigured", { detail: `settings: ${name}: ${what}` });
}
