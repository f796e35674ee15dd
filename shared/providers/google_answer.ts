import type { Answer, Candidate, Part } from "../contract/content.ts";
import type { AnswerVerdict } from "../contract/result.ts";
import type { Usage } from "../contract/usage.ts";

/** The model came to an end, or to the length it was allowed. */
const FINISHED = new Set(["STOP", "MAX_TOKENS", "FINISH_REASON_UNSPECIFIED"]);

/** Its filters ended it. Every other reason is a break-down: OTHER, LANGUAGE, MALFORMED_FUNCTION_CALL, ... */
const FILTERED = new Set([
  "SAFETY",
  "RECITATION",
  "BLOCKLIST",
  "PROHIBITED_CONTENT",
  "SPII",
  "IMAGE_SAFETY",
  "IMAGE_PROHIBITED_CONTENT",
  "IMAGE_RECITATION",
]);

/** Fields of a part that are not content: a part of only these says nothing. */
const NOT_CONTENT = new Set(["text", "thought", "thoughtSignature"]);

export function finishReasonOf(answer: Answer): string | null {
  return answer.candidates?.[0]?.finishReason ?? null;
}

/** Whether an answer with status 200 is one. With several candidates, one that is usable suffices. */
export function judgeAnswer(answer: Answer): AnswerVerdict {
  const candidates = answer.candidates ?? [];
  const [first] = candidates;
  if (first === undefined) {
    const blockReason = answer.promptFeedback?.blockReason;
    return blockReason === undefined
      ? { ok: false, code: "empty_answer", reason: "NO_CANDIDATES" }
      : { ok: false, code: "content_blocked", reason: blockReason };
  }
  const verdicts = candidates.map(judgeCandidate);
  return verdicts.find((verdict) => verdict.ok) ?? verdicts[0] ?? judgeCandidate(first);
}

function judgeCandidate(candidate: Candidate): AnswerVerdict {
  const reason = candidate.finishReason ?? "FINISH_REASON_UNSPECIFIED";
  if (FILTERED.has(reason)) return { ok: false, code: "content_blocked", reason };
  if (!FINISHED.has(reason)) return { ok: false, code: "answer_unusable", reason };
  const parts = candidate.content?.parts ?? [];
  return parts.some(saysSomething) ? { ok: true } : { ok: false, code: "empty_answer", reason };
}

function saysSomething(part: Part): boolean {
  if (part.thought === true) return false;
  if (typeof part.text === "string" && part.text.trim() !== "") return true;
  return Object.keys(part).some((field) => !NOT_CONTENT.has(field));
}

/** `usageMetadata` in our words; null if it is missing. Tool results in the prompt count as input too. */
export function usageOf(answer: Answer): Usage | null {
  const said = answer.usageMetadata;
  const prompt = count(said?.promptTokenCount);
  if (said === undefined || prompt === null) return null;
  return {
    inputTokens: prompt + (count(said.toolUsePromptTokenCount) ?? 0),
    outputTokens: count(said.candidatesTokenCount),
    thoughtsTokens: count(said.thoughtsTokenCount),
    cachedTokens: count(said.cachedContentTokenCount),
    totalTokens: count(said.totalTokenCount),
    estimated: false,
  };
}

function count(value: unknown): number | null {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 ? value : null;
}
