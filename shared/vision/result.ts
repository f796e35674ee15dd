import * as z from "zod";
import { isObject } from "../contract/is_object.ts";

/**
 * What is found in a picture, as it is stored: version 1. A change that readers of stored results would notice is a new version.
 * Lengths are in UTF-16 code units, as the database's checks count them at most.
 */
export const RESULT_VERSION = 1;

export const MAX_DESCRIPTION_CHARS = 2_000;
export const MAX_LABELS = 30;
export const MAX_LABEL_CHARS = 60;
export const MAX_OBJECTS = 50;
export const MAX_OBJECT_CHARS = 80;
export const MAX_OBJECT_COUNT = 10_000;
/** A page of dense print has some 6,000 characters. */
export const MAX_OCR_CHARS = 20_000;
export const MAX_SCENE_CHARS = 100;
/** So much of an answer is read, and kept where it does not hold: the longest result, written with escapes, fits. */
export const MAX_RAW_CHARS = 64 * 1024;
/** Of what is wrong with an answer: it is stored, logged, and told to the model that is asked once more. */
const MAX_FAULT_CHARS = 500;

const text = (most: number) => z.string().transform((value) => value.trim()).pipe(z.string().max(most));
const share = z.number().min(0).max(1);

const foundObject = z.object({
  name: text(MAX_OBJECT_CHARS).pipe(z.string().min(1)),
  count: z.number().int().min(1).max(MAX_OBJECT_COUNT),
});

/** Fields that are not known are left out: a model that says more has not said less. */
export const visionResult = z.object({
  /** What a person who does not see the picture should know of it; empty where only text was read. */
  description: text(MAX_DESCRIPTION_CHARS),
  /** Topics, in small letters, each once. */
  labels: z.array(text(MAX_LABEL_CHARS).pipe(z.string().min(1))).max(MAX_LABELS)
    .transform((labels) => [...new Set(labels.map((label) => label.toLowerCase()))]),
  /** What can be seen, each kind once with how many there are. */
  objects: z.array(foundObject).max(MAX_OBJECTS),
  /** All text in the picture, in its order, lines divided by `\n`; empty: there is none. */
  ocr_text: text(MAX_OCR_CHARS),
  /** Null: not looked at, as where only text was read. */
  is_meme: z.boolean().nullable(),
  /** Not safe for work: nudity, sex, violence. Null as with `is_meme`. */
  nsfw: z.boolean().nullable(),
  /** Where it is, in some words: `concert hall`. Null: it shows no place, or was not looked at. */
  scene: text(MAX_SCENE_CHARS).nullable(),
  /** Of the whole, from 0 to 1: in the model's own judgement, of OCR the mean over its words. Null: it was not told. */
  confidence: share.nullable(),
});

export type VisionResult = z.output<typeof visionResult>;

/**
 * The result of reading text and nothing else.
 * @param confidence from 0 to 1; null: it was not told
 */
export function textResult(ocrText: string, confidence: number | null): VisionResult {
  return {
    description: "",
    labels: [],
    objects: [],
    ocr_text: ocrText.trim().slice(0, MAX_OCR_CHARS),
    is_meme: null,
    nsfw: null,
    scene: null,
    confidence: confidence === null ? null : Math.min(1, Math.max(0, confidence)),
  };
}

/** The same as JSON schema, for models: what they can know they must say, so there is no null but for the scene. */
export const VISION_JSON_SCHEMA = {
  type: "object",
  properties: {
    description: { type: "string", maxLength: MAX_DESCRIPTION_CHARS },
    labels: { type: "array", maxItems: MAX_LABELS, items: { type: "string", maxLength: MAX_LABEL_CHARS } },
    objects: {
      type: "array",
      maxItems: MAX_OBJECTS,
      items: {
        type: "object",
        properties: {
          name: { type: "string", maxLength: MAX_OBJECT_CHARS },
          count: { type: "integer", minimum: 1, maximum: MAX_OBJECT_COUNT },
        },
        required: ["name", "count"],
      },
    },
    ocr_text: { type: "string", maxLength: MAX_OCR_CHARS },
    is_meme: { type: "boolean" },
    nsfw: { type: "boolean" },
    scene: { anyOf: [{ type: "string", maxLength: MAX_SCENE_CHARS }, { type: "null" }] },
    confidence: { type: "number", minimum: 0, maximum: 1 },
  },
  required: ["description", "labels", "objects", "ocr_text", "is_meme", "nsfw", "scene", "confidence"],
} as const;

export type ParsedResult =
  | { ok: true; result: VisionResult }
  /** `fault`: the first things that are wrong, by place: `labels: ...`; it repeats nothing of the picture. */
  | { ok: false; fault: string };

/** An answer that may stand in a fence of Markdown: models without a JSON mode like to write one. */
const FENCE = /^```(?:json)?\s*\n([\s\S]*?)\n?\s*```$/i;

/** Reads a model's answer. It never throws. */
export function parsedResult(answer: string): ParsedResult {
  if (answer.length > MAX_RAW_CHARS) {
    return { ok: false, fault: `the answer is longer than ${MAX_RAW_CHARS} characters` };
  }
  const trimmed = answer.trim();
  if (trimmed === "") return { ok: false, fault: "the answer is empty" };
  let value: unknown;
  try {
    value = JSON.parse(FENCE.exec(trimmed)?.[1] ?? trimmed);
  } catch {
    return { ok: false, fault: "the answer is not JSON" };
  }
  return checkedResult(value);
}

/** Checks a value that was parsed, or stored earlier. */
export function checkedResult(value: unknown): ParsedResult {
  if (!isObject(value)) return { ok: false, fault: "the answer is no JSON object" };
  const parsed = visionResult.safeParse(value);
  if (parsed.success) return { ok: true, result: parsed.data };
  const faults = parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
  return { ok: false, fault: faults.join("; ").slice(0, MAX_FAULT_CHARS) };
}
