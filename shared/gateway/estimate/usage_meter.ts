import { type Answer, partsOf } from "../../contract/content.ts";
import type { TokenUsage } from "../../contract/usage.ts";
import { textTokens } from "./estimate.ts";

/** Counts what a call uses while it runs: upstream's own figures where there are any, the weight of what it wrote else. */
export class UsageMeter {
  #booked: number;
  #reported: TokenUsage | null = null;
  #answered = 0;
  #thought = 0;

  /** @param booked the input tokens that were reserved */
  constructor(booked: number) {
    this.#booked = booked;
  }

  add(answer: Answer, reported: TokenUsage | null): void {
    this.#reported = reported ?? this.#reported;
    for (const part of partsOf(answer)) {
      if (typeof part.text !== "string") continue;
      if (part.thought === true) this.#thought += textTokens(part.text);
      else this.#answered += textTokens(part.text);
    }
  }

  /** For a call that ended, but not in the way that lets upstream have the last word. Always marked as an estimate. */
  estimate(): TokenUsage {
    const reported = this.#reported;
    const inputTokens = reported?.inputTokens ?? this.#booked;
    const outputTokens = Math.max(reported?.outputTokens ?? 0, Math.ceil(this.#answered));
    const thought = Math.max(reported?.thoughtsTokens ?? 0, Math.ceil(this.#thought));
    return {
      inputTokens,
      outputTokens,
      thoughtsTokens: thought === 0 ? null : thought,
      cachedTokens: reported?.cachedTokens ?? null,
      totalTokens: inputTokens + outputTokens + thought,
      estimated: true,
    };
  }
}
