import type { Answer, Candidate, Part } from "./content.ts";
import type { AnswerVerdict } from "./result.ts";
import type { TokenUsage } from "./usage.ts";

/** The model came to an end, or to the length it was allowed. */
const FINISHED = new Set(["STOP", "MAX_TOKENS", "FINISH_REASON_UNSPECIFIED"]);

/** Its filters ended it. Every other reason is a failure: OTHER, LANGUAGE, MALFORMED_FUNCTION_CALL, ... */
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

/** What a stream has brought so far, without its text: enough to judge it by. */
export class AnswerSoFar {
  /** What was reported last: each chunk reports the sum so far. */
  usage: TokenUsage | null = null;
  #blockReason: string | undefined;
  /** By candidate: why it ended, and whether it said anything. */
  #candidates = new Map<number, { finishReason?: string; says: boolean }>();

  add(chunk: Answer): void {
    this.usage = usageOf(chunk) ?? this.usage;
    this.#blockReason ??= chunk.promptFeedback?.blockReason;
    for (const [place, candidate] of (chunk.candidates ?? []).entries()) {
      const index = typeof candidate.index === "number" ? candidate.index : place;
      const known = this.#candidates.get(index) ?? { says: false };
      this.#candidates.set(index, {
        finishReason: candidate.finishReason ?? known.finishReason,
        says: known.says || (candidate.content?.parts ?? []).some(saysSomething),
      });
    }
  }

  get finishReason(): string | null {
    return this.#candidates.get(0)?.finishReason ?? null;
  }

  /** Whether upstream gave a reason to end, for every candidate. */
  get ended(): boolean {
    if (this.#blockReason !== undefined) return true;
    const candidates = [...this.#candidates.values()];
    return candidates.length > 0 && candidates.every(({ finishReason }) => finishReason !== undefined);
  }

  verdict(): AnswerVerdict {
    const candidates = [...this.#candidates.values()].map(({ finishReason, says }): Candidate => ({
      finishReason,
      content: { parts: says ? [{ text: "..." }] : [] },
    }));
    const promptFeedback = this.#blockReason === undefined ? undefined : { blockReason: this.#blockReason };
    return judgeAnswer({ candidates, promptFeedback });
  }
}

/** `usageMetadata` in our words; null if it is missing. Tool results in the prompt count as input too. */
export function usageOf(answer: Answer): TokenUsage | null {
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
