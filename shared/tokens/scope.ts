import { type ScopeName, SCOPES } from "../contract/actor.ts";
import type { TrafficClass } from "../contract/request.ts";

/** What the holder of a token may do. */
export interface Scope {
  /** Absent: `llm` alone, which needs no word. */
  scopes?: ScopeName[];
  /** Null: every model of the consumer. */
  models: string[] | null;
  class: TrafficClass;
  /** Requests in all; null: as many as the consumer may. */
  requests: number | null;
  /** Input and output tokens in all. */
  tokens: number | null;
}

/** A scope that is asked for: what is absent is as wide as the consumer's own. */
export interface AskedScope {
  scopes?: ScopeName[];
  models?: string[];
  class?: TrafficClass;
  requests?: number;
  tokens?: number;
}

/** Budgets are integers of the database. */
const MAX_REQUESTS = 2_147_483_647;

/** A scope in the form of RFC 6749, 3.3: words with spaces between them. */
export function formatScope(scope: Scope): string {
  return [
    ...(scope.scopes?.join() === "llm" ? [] : scope.scopes ?? []),
    ...(scope.models ?? []).map((model) => `model:${model}`),
    `class:${scope.class}`,
    ...(scope.requests === null ? [] : [`requests:${scope.requests}`]),
    ...(scope.tokens === null ? [] : [`tokens:${scope.tokens}`]),
  ].join(" ");
}

/** Reads such words. @throws TypeError naming the word that is none of them */
export function parseScope(text: string): AskedScope {
  const asked: AskedScope = {};
  for (const word of text.split(" ").filter((word) => word !== "")) {
    const colon = word.indexOf(":");
    const name = word.slice(0, Math.max(0, colon));
    const value = word.slice(colon + 1);
    const scope = SCOPES.find((each) => each === word);
    if (scope !== undefined && !asked.scopes?.includes(scope)) {
      asked.scopes = [...(asked.scopes ?? []), scope];
    } else if (name === "model" && value !== "") asked.models = [...(asked.models ?? []), value];
    else if (name === "class" && asked.class === undefined) asked.class = parseClass(value);
    else if (name === "requests" && asked.requests === undefined) asked.requests = parseBudget(name, value);
    else if (name === "tokens" && asked.tokens === undefined) asked.tokens = parseBudget(name, value);
    else {
      throw new TypeError(
        "a word of the scope is none of llm, media, chats, vision, intake, model:NAME, class:interactive|batch, requests:N and tokens:N, or is there twice",
      );
    }
  }
  return asked;
}

export function parseClass(value: unknown): TrafficClass {
  if (value === "interactive" || value === "batch") return value;
  throw new TypeError("class must be interactive or batch");
}

/** A budget or a number of seconds: a whole number from 1. */
export function parseBudget(name: string, value: unknown): number {
  const number = typeof value === "string" && /^\d{1,10}$/.test(value) ? Number(value) : value;
  if (typeof number === "number" && Number.isInteger(number) && number >= 1 && number <= MAX_REQUESTS) {
    return number;
  }
  throw new TypeError(`${name} must be a whole number from 1 to ${MAX_REQUESTS}`);
}
