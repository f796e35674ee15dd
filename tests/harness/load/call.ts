/**
 * One call as a client makes it, through any of the three endpoints, whose right answer is known beforehand: the emulated model
 * repeats what the prompt tells it to say. So a wrong answer is seen as one, also one that stops too early without saying so.
 */
import { errorRow, isErrorCode } from "../../../shared/contract/errors.ts";

export const ENDPOINTS = ["native", "openai", "gemini"] as const;
export type Endpoint = (typeof ENDPOINTS)[number];

export interface Order {
  /** The request id; stands in the prompt too, by which the emulator's journal is matched. */
  id: string;
  endpoint: Endpoint;
  stream: boolean;
  model: string;
  /** Words in the answer, and so roughly tokens both ways. */
  words: number;
  class: "interactive" | "batch";
  /** 0: now or never. */
  maxWaitMs: number;
  /** The client hangs up after so many milliseconds; null: never. */
  leavesAfterMs: number | null;
}

export type Answered =
  /** Whole, and word for word what the model said. */
  | { kind: "answered"; replayed: boolean }
  /** A well-formed error of the table, before the answer or in the middle of it. */
  | {
    kind: "refused";
    code: string;
    status: number;
    retryAfterMs: number | null;
    midway: boolean;
  }
  /** The connection failed or broke off, so the client knows that it has no answer. */
  | { kind: "lost"; midway: boolean }
  /** The client hung up itself. */
  | { kind: "left" }
  /** What no client can live with. */
  | { kind: "wrong"; what: string };

/** A client that still has nothing by then has been forgotten. On top of what it is willing to wait for its start. */
const PATIENCE_MS = 60_000;
/**
 * What a call may be refused with: for want of quota, for trouble upstream or in the database, and as a repetition. The calls
 * themselves are in order, so every other code is a fault of the gateway.
 */
const EXPECTED = new Set([
  "no_active_key",
  "rate_limited",
  "lane_blocked",
  "too_many_waiting",
  "token_revoked",
  "request_running",
  "request_finished",
  "upstream_unavailable",
  "upstream_timeout",
  "upstream_rate_limited",
  "key_rejected",
  "empty_answer",
  "answer_unusable",
  "deadline_exceeded",
  "database_unavailable",
  "worker_unavailable",
]);
/** What the place in front of the function says while there is none (local/reverse_proxy.ts). */
const ORIGIN_CODES = new Set(["worker_unavailable"]);

const WORDS = "amber birch cedar delta ember fjord grove heron islet juniper kelp larch maple north"
  .split(
    " ",
  );

/** What the model is asked to repeat. */
export function expectedText({ id, words }: Order): string {
  const said = [id];
  for (let n = 0; n < words; n++) {
    said.push(WORDS[(n * 5 + id.length) % WORDS.length]!);
  }
  return said.join(" ");
}

/** The request id in a body that the emulator kept; undefined for somebody else's. */
export function idInBody(body: string): string | undefined {
  return /Say: ([a-z]+-\d+-\d+)/.exec(body)?.[1];
}

/** Makes the call. Never throws. @param tolerated codes that are no fault at this moment */
export async function place(
  order: Order,
  functionsUrl: string,
  credential: Record<string, string>,
  tolerated: ReadonlySet<string> = new Set(),
): Promise<Answered> {
  const answer = await placed(order, functionsUrl, credential);
  if (
    answer.kind !== "refused" || EXPECTED.has(answer.code) ||
    tolerated.has(answer.code)
  ) return answer;
  return { kind: "wrong", what: `status ${answer.status}, ${answer.code}` };
}

async function placed(
  order: Order,
  functionsUrl: string,
  credential: Record<string, string>,
): Promise<Answered> {
  const leaves = new AbortController();
  const forgotten = AbortSignal.timeout(PATIENCE_MS + order.maxWaitMs);
  const timer = order.leavesAfterMs === null
    ? undefined
    : setTimeout(() => leaves.abort(), order.leavesAfterMs);
  let began = false;
  try {
    const { path, headers, body } = wireOf(order);
    const response = await fetch(`${functionsUrl}/llm-invoke${path}`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        ...headers,
        ...credential,
      },
      body: JSON.stringify(body),
      signal: AbortSignal.any([leaves.signal, forgotten]),
    });
    if (!response.ok) return refusalOf(await response.text(), response);
    began = true;
    const replayed = response.headers.get("x-eve-replayed") === "true";
    return order.stream
      ? await readStream(order, response, replayed)
      : judge(order, wholeText(order.endpoint, await response.json()), replayed);
  } catch (error) {
    if (leaves.signal.aborted) return { kind: "left" };
    if (forgotten.aborted) {
      return { kind: "wrong", what: "no answer and no error in all its time" };
    }
    if (error instanceof SyntaxError) {
      return { kind: "wrong", what: `not JSON: ${error.message}` };
    }
    return { kind: "lost", midway: began };
  } finally {
    clearTimeout(timer);
  }
}

function wireOf(
  order: Order,
): { path: string; headers: Record<string, string>; body: unknown } {
  const { endpoint, id, stream, model, maxWaitMs } = order;
  const prompt = `Say: ${expectedText(order)}`;
  if (endpoint === "native") {
    const mode = maxWaitMs === 0 ? { mode: "no_wait" } : { mode: "wait", max_wait_ms: maxWaitMs };
    return {
      path: "",
      headers: {},
      body: {
        model,
        prompt,
        request_id: id,
        class: order.class,
        stream,
        ...mode,
      },
    };
  }
  const headers = {
    "x-eve-request-id": id,
    "x-eve-class": order.class,
    ...(maxWaitMs === 0
      ? { "x-eve-mode": "no_wait" }
      : { "x-eve-mode": "wait", "x-eve-max-wait-ms": String(maxWaitMs) }),
  };
  return endpoint === "openai"
    ? {
      path: "/openai/v1/chat/completions",
      headers,
      body: { model, stream, messages: [{ role: "user", content: prompt }] },
    }
    : {
      path: `/v1beta/models/${model}:${stream ? "streamGenerateContent?alt=sse" : "generateContent"}`,
      headers,
      body: { contents: [{ role: "user", parts: [{ text: prompt }] }] },
    };
}

// deno-lint-ignore no-explicit-any -- wire formats of three APIs, of which a few fields are looked at.
type Json = any;

function wholeText(endpoint: Endpoint, body: Json): string {
  switch (endpoint) {
    case "native":
      return body.text;
    case "openai":
      return body.choices[0].message.content;
    case "gemini":
      return geminiText(body);
  }
}

function geminiText(body: Json): string {
  const parts: { text?: string; thought?: boolean }[] = body.candidates?.[0]?.content?.parts ?? [];
  return parts.map((part) => part.thought ? "" : part.text ?? "").join("");
}

function judge(order: Order, text: string, replayed: boolean): Answered {
  if (text === expectedText(order)) return { kind: "answered", replayed };
  return {
    kind: "wrong",
    what: `said ${JSON.stringify(String(text).slice(0, 80))}`,
  };
}

/** Reads to the end, and knows of each endpoint by what a stream that is whole ends. */
async function readStream(
  order: Order,
  response: Response,
  replayed: boolean,
): Promise<Answered> {
  let text = "";
  let whole = false;
  try {
    for await (const { event, data } of serverSentEvents(response.body!)) {
      if (order.endpoint === "openai" && data === "[DONE]") {
        whole = true;
        continue;
      }
      const json: Json = JSON.parse(data);
      if (json.error !== undefined || event === "error") {
        return checkedError(
          codeIn(order.endpoint === "native" ? { error: json } : json),
          response,
          true,
        );
      }
      switch (order.endpoint) {
        case "native":
          if (event === "delta") text += json.text;
          whole ||= event === "done";
          break;
        case "openai":
          text += json.choices?.[0]?.delta?.content ?? "";
          break;
        case "gemini":
          text += geminiText(json);
          whole ||= json.candidates?.[0]?.finishReason === "STOP";
      }
    }
  } catch (error) {
    if (error instanceof SyntaxError) {
      return {
        kind: "wrong",
        what: `a frame that is not JSON: ${error.message}`,
      };
    }
    // What came must be the beginning of the answer all the same.
    if (!expectedText(order).startsWith(text)) {
      return judge(order, text, replayed);
    }
    throw error;
  }
  if (whole) return judge(order, text, replayed);
  return expectedText(order).startsWith(text) ? { kind: "lost", midway: true } : judge(order, text, replayed);
}

async function* serverSentEvents(
  body: ReadableStream<Uint8Array>,
): AsyncGenerator<{ event: string; data: string }> {
  let buffer = "";
  for await (
    const chunk of body.pipeThrough(
      new TextDecoderStream() as never,
    ) as ReadableStream<string>
  ) {
    buffer += chunk;
    for (;;) {
      const end = /\r?\n\r?\n/.exec(buffer);
      if (end === null) break;
      const lines = buffer.slice(0, end.index).split(/\r?\n/);
      buffer = buffer.slice(end.index + end[0].length);
      const field = (name: string) =>
        lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trim());
      yield { event: field("event")[0] ?? "", data: field("data").join("\n") };
    }
  }
}

function refusalOf(text: string, response: Response): Answered {
  let json: Json;
  try {
    json = JSON.parse(text);
  } catch {
    return {
      kind: "wrong",
      what: `status ${response.status} without JSON: ${text.slice(0, 80)}`,
    };
  }
  return checkedError(codeIn(json), response, false);
}

/** Our own code, where each endpoint keeps it. */
function codeIn(json: Json): string {
  const { error } = json;
  if (error === undefined) return String(json.code);
  const details: Json[] = Array.isArray(error.details) ? error.details : [];
  return String(
    error.eve?.code ??
      details.find((one) => one.metadata?.code)?.metadata.code ?? error.code,
  );
}

function checkedError(
  code: string,
  response: Response,
  midway: boolean,
): Answered {
  const seconds = response.headers.get("retry-after");
  const retryAfterMs = seconds === null ? null : Number(seconds) * 1_000;
  const status = response.status;
  if (!ORIGIN_CODES.has(code) && !isErrorCode(code)) {
    return {
      kind: "wrong",
      what: `status ${status} with unknown code ${code}`,
    };
  }
  if (!midway && isErrorCode(code) && status !== errorRow(code).status) {
    return { kind: "wrong", what: `${code} came with status ${status}` };
  }
  return { kind: "refused", code, status, retryAfterMs, midway };
}
