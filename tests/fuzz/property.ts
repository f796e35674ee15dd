/** What a property of these tests is, and what each of them looks at. */
import type fc from "fast-check";
import { type ErrorCode, errorRow, isErrorCode } from "../../shared/contract/errors.ts";
import { anthropicStatus } from "../../shared/endpoints/anthropic/error.ts";
import { SECRETS } from "./function_in_process.ts";

export interface Property {
  name: string;
  property: fc.IAsyncPropertyWithHooks<[unknown]>;
  /** Cases that `npm test` tries. */
  cases: number;
}

// deno-lint-ignore no-explicit-any -- what fast-check gives for a property of several values.
export const property = (name: string, cases: number, it: any): Property => ({ name, cases, property: it });

export function safe(given: Record<string, string>): Headers {
  const headers = new Headers();
  for (const [name, value] of Object.entries(given)) {
    try {
      headers.set(name, value);
    } catch {
      // No client could send it either.
    }
  }
  return headers;
}

/** What came out of what must not. */
export function leaks(...texts: string[]): string[] {
  return Object.entries(SECRETS).filter(([, secret]) => texts.some((text) => text.includes(secret)))
    .map(([name]) => `the ${name}'s secret came out`);
}

/** Whether a response is an answer, or an error in its endpoint's form with a code of the table that fits its status. */
export function wrongWith(path: string, { status, headers }: Response, text: string): string[] {
  const faults: string[] = [];
  if (!headers.has("x-request-id") && !headers.has("x-eve-request-id")) faults.push("no request id");
  if (/"code":"internal"|"INTERNAL"/.test(text)) faults.push(`internal: ${text}`);
  if (headers.get("content-type")?.startsWith("text/event-stream")) {
    return [
      ...faults,
      ...framesOf(text).flatMap((frame) => isJson(frame) ? [] : [`a frame that is no JSON: ${frame}`]),
    ];
  }
  if (!isJson(text)) return [...faults, `a body that is no JSON: ${text}`];
  if (status === 200) return faults;
  const code = codeIn(path, JSON.parse(text));
  if (code === null) faults.push(`no known code: ${text}`);
  else if (statusAt(path, code) !== status) faults.push(`${code} with status ${status}`);
  else if (code === "internal" || code === "gateway_misconfigured") faults.push(text);
  return faults;
}

const framesOf = (text: string) =>
  text.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim())
    .filter((frame) => frame !== "[DONE]");

/** Anthropic's API has statuses of its own for some, and OpenAI's for a prompt that is too long. */
function statusAt(path: string, code: ErrorCode): number {
  const { status } = errorRow(code);
  if (path.startsWith("/openai") && code === "prompt_too_large") return 400;
  return path.startsWith("/anthropic") ? anthropicStatus({ code, status }) : status;
}

// deno-lint-ignore no-explicit-any -- any JSON, looked into for a code.
function codeIn(path: string, json: any): ErrorCode | null {
  const code = /^\/(openai|anthropic)/.test(path)
    ? json?.error?.eve?.code
    : path.startsWith("/v1")
    ? json?.error?.details?.[0]?.metadata?.code
    : json?.error?.code;
  return typeof code === "string" && isErrorCode(code) ? code : null;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

export function mustBeEmpty(faults: string[]): void {
  if (faults.length > 0) throw new Error(faults.join("\n").slice(0, 2_000));
}
