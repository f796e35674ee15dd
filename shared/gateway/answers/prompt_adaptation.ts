import type { Answer, Content, GenerationConfig, Part, Prompt } from "../../contract/content.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { Capabilities } from "../../database/admission/reserve.ts";

/**
 * A prompt adapted to the chosen model: a feature that the model lacks is replaced by an instruction where that is possible.
 * @throws GatewayError `unsupported_feature` for tools on a model without them
 */
export function adaptPrompt(prompt: Prompt, capabilities: Capabilities, model: string): Prompt {
  let fitted = prompt;
  if (!capabilities.tools && (prompt.tools?.length ?? 0) > 0) {
    throw new GatewayError("unsupported_feature", {
      message: `${model} cannot call tools. Use another model, or leave the tools out.`,
    });
  }
  if (!capabilities.json) fitted = askForJsonInWords(fitted);
  if (!capabilities.system) fitted = foldSystemText(fitted);
  return fitted;
}

/** JSON mode and schema become an instruction. */
function askForJsonInWords(prompt: Prompt): Prompt {
  const { responseMimeType, responseSchema, responseJsonSchema, ...rest } = prompt.generationConfig ?? {};
  const schema = responseSchema ?? responseJsonSchema;
  if (responseMimeType !== "application/json" && schema === undefined) return prompt;
  const instruction = schema === undefined
    ? "Answer with one JSON value and nothing else: no explanation, no code fence."
    : "Answer with one JSON value that matches this JSON schema, and nothing else: no explanation, no code fence.\n" +
      JSON.stringify(schema);
  const system = prompt.systemInstruction ?? { parts: [] };
  return {
    ...prompt,
    systemInstruction: { ...system, parts: [...(system.parts ?? []), { text: instruction }] },
    generationConfig: rest as GenerationConfig,
  };
}

/** The system instruction moves to the head of the first user turn. */
function foldSystemText(prompt: Prompt): Prompt {
  const { systemInstruction, ...rest } = prompt;
  const parts = systemInstruction?.parts ?? [];
  if (parts.length === 0) return rest as Prompt;
  const at = rest.contents.findIndex((content) => content.role === undefined || content.role === "user");
  if (at < 0) return { ...rest, contents: [{ role: "user", parts }, ...rest.contents] };
  const contents = rest.contents.map((content, index): Content =>
    index === at ? { ...content, parts: [...parts, ...(content.parts ?? [])] } : content
  );
  return { ...rest, contents };
}

/** JSON that was asked for in words often comes in a code fence all the same; where the whole answer is one, it goes. */
export function unfenced(answer: Answer): Answer {
  const [first, ...others] = answer.candidates ?? [];
  const parts = first?.content?.parts ?? [];
  const spoken = parts.filter((part) => typeof part.text === "string" && part.thought !== true);
  const inner = insideFence(spoken.map(({ text }) => text).join(""));
  if (first === undefined || inner === undefined) return answer;
  const rest = parts.filter((part: Part) => !spoken.includes(part));
  const content = { ...first.content, parts: [...rest, { ...spoken.at(-1), text: inner }] };
  return { ...answer, candidates: [{ ...first, content }, ...others] };
}

/** The content of a text that is one code fence; undefined: it is not. Without a regular expression over all of it,
 * since a long run of white space would make it backtrack. */
function insideFence(text: string): string | undefined {
  const trimmed = text.trim();
  const begin = /^```(?:json)?[^\S\n]*\n/i.exec(trimmed)?.[0].length;
  if (begin === undefined || !trimmed.endsWith("```") || trimmed.length < begin + 3) return undefined;
  return trimmed.slice(begin, -3).trim();
}
