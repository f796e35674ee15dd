/** An emulator with a clock that stands still until a test moves it, and requests as a client sends them. */
import { type Emulator, type EmulatorOptions, startEmulator } from "../../local/emulator/emulator.ts";

/** 12 July 2026, 12:00:00 in UTC, 05:00 in Los Angeles; the start of a minute. */
export const NOON = Date.UTC(2026, 6, 12, 12);

export interface Clock {
  at: number;
  now: () => number;
}

export function clockAt(at: number): Clock {
  const clock: Clock = { at, now: () => clock.at };
  return clock;
}

export const GEMMA = "gemma-4-31b-it";
export const KEY = "demo-key-a";

const started: Emulator[] = [];

export async function emulator(options: EmulatorOptions = {}): Promise<Emulator> {
  const one = await startEmulator(options);
  started.push(one);
  return one;
}

/** For `afterEach`: nothing a test started outlives it. */
export async function stopAll(): Promise<void> {
  await Promise.all(started.splice(0).map((one) => one.stop()));
}

export interface Sent {
  key?: string | null;
  model?: string;
  method?: string;
  version?: string;
  query?: string;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

export function prompt(text: string): { contents: unknown[] } {
  return { contents: [{ role: "user", parts: [{ text }] }] };
}

/** Sends a body to a method of a model; a string is sent as it is. */
export function post(one: Emulator, body: unknown, sent: Sent = {}): Promise<Response> {
  const { key = KEY, model = GEMMA, method = "generateContent", version = "v1beta", query = "" } = sent;
  return fetch(`${one.url}/${version}/models/${model}:${method}${query}`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      ...(key === null ? {} : { "x-goog-api-key": key }),
      ...sent.headers,
    },
    body: typeof body === "string" ? body : JSON.stringify(body),
    signal: sent.signal,
  });
}

/** The status of a request, its body read to the end. */
export async function statusOf(one: Emulator, text = "Say hi", sent: Sent = {}): Promise<number> {
  const answer = await post(one, prompt(text), sent);
  await answer.text();
  return answer.status;
}

export interface ErrorBody {
  code: number;
  message: string;
  status: string;
  // deno-lint-ignore no-explicit-any
  details?: any[];
}

export async function errorOf(answer: Response): Promise<ErrorBody> {
  const body = await answer.json();
  return (Array.isArray(body) ? body[0] : body).error;
}

/** The answer's text without its thoughts. */
// deno-lint-ignore no-explicit-any
export function textOf(body: any): string {
  return body.candidates[0].content.parts
    .filter((part: { thought?: boolean; text?: string }) => !part.thought && part.text !== undefined)
    .map((part: { text: string }) => part.text)
    .join("");
}

/** The JSON of each server-sent event. @throws when a frame is not framed as Google frames it. */
// deno-lint-ignore no-explicit-any
export function framesOf(text: string): any[] {
  const frames = text.split("\r\n\r\n");
  if (frames.pop() !== "") throw new Error(`the stream ends inside a frame: ${text.slice(-80)}`);
  return frames.map((frame) => {
    if (!frame.startsWith("data: ")) throw new Error(`not a frame: ${frame.slice(0, 80)}`);
    return JSON.parse(frame.slice("data: ".length));
  });
}
