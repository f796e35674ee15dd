/** The first call a user sees: a real question to the real endpoint, and how to repeat it. */
import { safeForTerminal } from "../cli/eve/terminal.ts";
import type { Stack } from "./stack.ts";

/** A model that every kind of upstream serves. */
const MODEL = "gemma-4-31b-it";

/** The free tier of Google can take half a minute when it is busy. */
const TIMEOUT_MS = 60_000;

/** The function that answers it. */
export const FIRST_FUNCTION = "llm-invoke";

/** Short, so that the line that repeats it is one that a terminal shows whole. */
const BODY = { model: MODEL, prompt: "Say hello in one word." };

/** The reverse proxy's own answers: no function has seen the call. */
const NO_FUNCTION = ["not_found", "worker_unavailable"];

/** Of a stack that has just started, they are about the key that it was started with. */
const KEY_TROUBLE = ["key_rejected", "no_active_key", "secret_missing"];
const KEY_ADVICE =
  "Is GOOGLE_API_KEY typed right? End the stack and start it with the right one: that is all. `npm run eve -- keys list` says what is wrong with each key.";

const UPSTREAM_ADVICE =
  "`npm run eve -- doctor` says whether Google is reached from here, and what to do if it is not.";

interface Answer {
  text?: string;
  key_alias?: string;
  model?: string;
  usage?: unknown;
  limits?: Record<string, { limit: number | null; remaining: number | null } | null>;
  error?: { code?: string; message?: string };
  code?: string;
  message?: string;
}

/**
 * Makes the call and describes the outcome. `ok` is false when there was no answer; the lines then say what to do.
 * `reached` is false when there was no function to answer.
 */
export async function firstCall(stack: Pick<Stack, "url" | "keys">): Promise<FirstCall> {
  const { lines, ...outcome } = await call(stack);
  // A model's words, which a terminal must show and not act on.
  return { ...outcome, lines: lines.map((line) => safeForTerminal(line, false)) };
}

interface FirstCall {
  ok: boolean;
  reached: boolean;
  lines: string[];
}

async function call(stack: Pick<Stack, "url" | "keys">): Promise<FirstCall> {
  let status = 0;
  let answer: Answer;
  const startedAt = Date.now();
  try {
    const response = await fetch(`${stack.url}/functions/v1/${FIRST_FUNCTION}`, {
      method: "POST",
      headers: { "apikey": stack.keys.secret, "content-type": "application/json" },
      body: JSON.stringify(BODY),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    status = response.status;
    answer = await response.json();
  } catch (error) {
    answer = { code: "unreachable", message: error instanceof Error ? error.message : String(error) };
  }
  if (status !== 200) {
    const { code, message } = answer.error ?? answer;
    return {
      ok: false,
      reached: !NO_FUNCTION.includes(answer.code ?? ""),
      lines: [
        `The first call failed: ${code ?? "no code"} (status ${status}): ${
          message ?? JSON.stringify(answer)
        }`,
        ...(KEY_TROUBLE.includes(code ?? "") ? [KEY_ADVICE] : []),
        ...(code === "upstream_unavailable" ? [UPSTREAM_ADVICE] : []),
        `The stack serves all the same. Repeat the call once this is fixed:`,
        repeatWithCurl(stack),
      ],
    };
  }
  return {
    ok: true,
    reached: true,
    lines: [
      `First call to ${answer.model} with key ${answer.key_alias}, ${Date.now() - startedAt} ms:`,
      `  ${BODY.prompt}`,
      ...indent(answer.text ?? "").map((line) => `  ${line}`),
      `Left of its limits: ${describeLimits(answer.limits)}`,
      `Repeat it with:`,
      repeatWithCurl(stack),
    ],
  };
}

function describeLimits(limits: Answer["limits"]): string {
  const names: Record<string, string> = {
    requests: "requests a minute",
    tokens: "input tokens a minute",
    requests_day: "requests a day",
  };
  return Object.entries(limits ?? {})
    .map(([name, left]) =>
      left?.limit == null
        ? `unlimited ${names[name] ?? name}`
        : `${left.remaining} of ${left.limit} ${names[name] ?? name}`
    )
    .join(", ") || "not said";
}

/** One line for a POSIX shell. */
function repeatWithCurl(stack: Pick<Stack, "url" | "keys">): string {
  const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
  return `  curl -s ${stack.url}/functions/v1/${FIRST_FUNCTION} -H ${
    quote(`apikey: ${stack.keys.secret}`)
  } ` +
    `-H 'content-type: application/json' -d ${quote(JSON.stringify(BODY))}`;
}

function indent(text: string): string[] {
  return text.trim().split("\n").map((line) => `  ${line}`);
}
