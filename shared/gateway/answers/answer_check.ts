import { type Answer, type Prompt, textOf } from "../../contract/content.ts";
import { checkValue, MAX_STEPS } from "../../schema/check.ts";
import { compileSchema } from "../../schema/compile.ts";
import type { SchemaNode } from "../../schema/schema_node.ts";
import type { Served } from "../tasks/task.ts";

/** JSON was asked for, with or without a schema. */
export interface JsonRequirement {
  schema: SchemaNode | null;
}

/** The longest description of what breaks a schema; the first fault is the one that helps. */
const MAX_REASON_CHARS = 300;

/**
 * What an answer must be; null: any text will do.
 * @throws GatewayError `invalid_request` for a schema that no answer can be checked against
 */
export function jsonRequirement({ generationConfig }: Prompt): JsonRequirement | null {
  for (const field of ["responseJsonSchema", "responseSchema"]) {
    const schema = generationConfig?.[field];
    if (typeof schema === "object" && schema !== null) {
      return { schema: compileSchema(schema, `generationConfig.${field}`) };
    }
  }
  return generationConfig?.responseMimeType === "application/json" ? { schema: null } : null;
}

/**
 * An answer whose JSON is checked, if JSON was asked for: one that broke off at its length limit, that is no JSON, that
 * does not match its schema, or that it would take too long to check gets a verdict that says so. An answer of another kind
 * (a tool call) is left alone.
 */
export function checkJson(
  requirement: JsonRequirement | null,
  served: Served<Answer>,
  maxSteps = MAX_STEPS,
): Served<Answer> {
  if (requirement === null || !served.verdict.ok) return served;
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
  if (requirement.schema === null) return served;
  const checked = checkValue(requirement.schema, value, maxSteps);
  switch (checked.outcome) {
    case "fits":
      return served;
    case "broken":
      return {
        ...served,
        verdict: { ok: false, code: "schema_mismatch", reason: checked.fault.slice(0, MAX_REASON_CHARS) },
      };
    case "given_up":
      return {
        ...served,
        verdict: { ok: false, code: "schema_too_complex", reason: `not checked after ${maxSteps} steps` },
      };
  }
}
