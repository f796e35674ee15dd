import type { Answer } from "../../contract/content.ts";
import { isObject } from "../../contract/is_object.ts";

/**
 * An answer in which everything that the gateway reads has the form that it should have; what it does not read may be
 * anything. By hand, as every chunk of every stream comes by.
 * @throws Error for what upstream cannot have meant: it counts as an answer that broke off
 */
export function answerIn(value: unknown): Answer {
  const isAnswer = isObject(value) &&
    optional(value.candidates, listOf(isCandidate)) &&
    optional(value.usageMetadata, isObject) &&
    optional(
      value.promptFeedback,
      (feedback) => isObject(feedback) && optional(feedback.blockReason, isText),
    );
  if (!isAnswer) throw new Error("an answer of another form than documented");
  return value as Answer;
}

function isCandidate(value: unknown): boolean {
  return isObject(value) && optional(value.finishReason, isText) &&
    optional(value.content, (content) => isObject(content) && optional(content.parts, listOf(isPart)));
}

function isPart(value: unknown): boolean {
  return isObject(value) && optional(value.text, isText) && optional(value.thoughtSignature, isText) &&
    optional(value.functionCall, (call) => isObject(call) && isText(call.name)) &&
    optional(value.inlineData, isObject);
}

function optional(value: unknown, is: (value: unknown) => boolean): boolean {
  return value === undefined || is(value);
}

const listOf = (is: (value: unknown) => boolean) => (value: unknown) =>
  Array.isArray(value) && value.every(is);

const isText = (value: unknown) => typeof value === "string";
