import { Validator } from "@cfworker/json-schema";
import { type Answer, type Prompt, textOf } from "../contract/content.ts";
import { plainSchema } from "../contract/plain_schema.ts";
import type { Served } from "./task.ts";

/** JSON was asked for, with or without a schema. */
export interface JsonWish {
  schema: Record<string, unknown> | null;
}

/** The longest account of what breaks a schema; the first fault is the one that helps. */
const MAX_REASON_CHARS = 300;

/** Null: any text will do. */
export function jsonWish({ generationConfig }: Prompt): JsonWish | null {
  const schema = generationConfig?.responseJsonSchema ?? generationConfig?.responseSchema;
  if (typeof schema === "object" && schema !== null) return { schema: plainSchema(schema) };
  return generationConfig?.responseMimeType === "application/json" ? { schema: null } : null;
}

/**
 * An answer whose JSON is checked, if JSON was asked for: one that broke off at its length limit, that is no JSON, or that
 * does not match its schema gets a verdict that says so. An answer of another kind (a tool call) is left alone, and so is
 * one whose schema cannot be used here, since the model has had the last word on it.
 */
export function checkJson(wish: JsonWish | null, served: Served<Answer>): Served<Answer> {
  if (wish === null || !served.verdict.ok) return served;
  const text = textOf(served.value);
  if (text.trim() === "") return served;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return served.finishReason === "MAX_TOKENS"
      ? { ...served, verdict: { ok: false, code: "answer_truncated", reason: "MAX_TOKENS" } }
      : {
        ...served,
        verdict: { ok: false, code: "schema_mismatch", reason: "the answer is not valid JSON" },
      };
  }
  const fault = wish.schema === null ? null : faultOf(wish.schema, value);
  return fault === null
    ? served
    : { ...served, verdict: { ok: false, code: "schema_mismatch", reason: fault } };
}

/** The first thing that is wrong, with its place; null: nothing. */
function faultOf(schema: Record<string, unknown>, value: unknown): string | null {
  try {
    const { valid, errors } = new Validator(schema, "2020-12").validate(value);
    if (valid) return null;
    // The last is the most specific: those before it say that something further down is wrong.
    const fault = errors.at(-1);
    const place = fault?.instanceLocation === "#" ? "the whole" : fault?.instanceLocation ?? "the whole";
    return `${place}: ${fault?.error ?? "does not match"}`.slice(0, MAX_REASON_CHARS);
  } catch {
    // A reference that leads nowhere, or in a circle.
    return null;
  }
}
