import * as z from "zod";
import type { Prompt } from "../../contract/content.ts";
import { compileSchema } from "../../schema/compile.ts";
import { camelFields, camelPrompt } from "./spelling.ts";
import { listOf, validated } from "../validated.ts";

const part = z.looseObject({
  text: z.string().optional(),
  thought: z.boolean().optional(),
  inlineData: z.looseObject({ mimeType: z.string().optional(), data: z.string().optional() }).optional(),
});

/** A turn of the conversation. Open: fields of tomorrow travel upstream. */
export const geminiContent = z.looseObject({ role: z.string().optional(), parts: listOf(part).optional() });

const anyObject = z.record(z.string(), z.unknown());

/** Only what the gateway itself looks at; the rest is between the client and the model. */
const prompt = z.looseObject({
  contents: listOf(geminiContent, { error: "must be a list of contents, each with its parts" })
    .min(1, "must have at least one content"),
  systemInstruction: geminiContent.optional(),
  tools: listOf(anyObject).optional(),
  toolConfig: anyObject.optional(),
  safetySettings: listOf(anyObject).optional(),
  generationConfig: anyObject.optional(),
}, { error: (issue) => issue.code === "invalid_type" ? "must be a JSON object" : undefined });

/**
 * The body of `generateContent` as a prompt, every field in it.
 * @throws GatewayError `invalid_request`
 */
export function geminiPrompt(body: unknown): Prompt {
  // The path names the model, and the gateway may serve its successor: a second name upstream would contradict.
  const { model: _, ...asked } = validated(prompt, camelPrompt(body));
  for (const field of ["responseSchema", "responseJsonSchema"]) {
    const schema = asked.generationConfig?.[field];
    if (schema !== undefined && schema !== null) compileSchema(schema, `generationConfig.${field}`);
  }
  return asked;
}

/**
 * What `countTokens` is to count: the whole `generateContentRequest`, or bare `contents`.
 * @throws GatewayError `invalid_request`
 */
export function geminiCountedPrompt(body: unknown): Prompt {
  const whole = z.looseObject({ generateContentRequest: z.unknown() }).safeParse(camelFields(body));
  return geminiPrompt(whole.data?.generateContentRequest ?? body);
}
