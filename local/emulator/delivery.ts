/**
 * Writes responses, whole or in chunks, and breaks them where a fault says so.
 */

import { type ErrorContext, errorNamed, type GoogleError } from "./errors.ts";
import type { Exchange } from "./exchange.ts";
import type { Fault } from "./faults.ts";
import { ARRAY_END, arrayOpening, type Encoding, type GenerateResponse, sseFrame, toJson } from "./wire.ts";

const JSON_TYPE = "application/json; charset=UTF-8";
const SSE_TYPE = "text/event-stream";
const HTML_TYPE = "text/html; charset=UTF-8";

/** The connection was closed on purpose; there is nothing left to send. */
export class ConnectionCut extends Error {}

/** A whole JSON answer with status 200. */
export async function sendOne(
  exchange: Exchange,
  encoding: Encoding,
  body: unknown,
  fault?: Fault,
): Promise<void> {
  const text = `${toJson(body, encoding)}\n`;
  const half = text.slice(0, Math.ceil(text.length / 2));
  if (fault?.kind === "broken_stream" && fault.how === "reset") {
    exchange.begin(200, JSON_TYPE, { "content-length": String(new TextEncoder().encode(text).length) });
    exchange.write(half);
    await exchange.cut();
    throw new ConnectionCut();
  }
  const broken = fault?.kind === "malformed_json" || fault?.kind === "broken_stream";
  exchange.send(200, JSON_TYPE, broken ? half : text);
}

/** An error as the whole answer; inside an array where a stream of JSON was asked for, as Google does. */
export function sendError(
  exchange: Exchange,
  encoding: Encoding,
  error: GoogleError,
  inArray: boolean,
): void {
  if (typeof error.body === "string") return exchange.send(error.status, HTML_TYPE, error.body);
  const body = inArray ? [error.body] : error.body;
  exchange.send(error.status, JSON_TYPE, `${toJson(body, encoding)}\n`);
}

/**
 * A stream: server-sent events, or one JSON array that is written piece by piece.
 *
 * @param chunkDelayMs pause before each chunk but the first.
 */
export async function sendStream(
  exchange: Exchange,
  encoding: Encoding,
  frames: GenerateResponse[],
  at: ErrorContext,
  chunkDelayMs: number,
  fault?: Fault,
): Promise<void> {
  const frame = (json: string, index: number) => encoding.sse ? sseFrame(json) : arrayOpening(index) + json;
  exchange.begin(200, encoding.sse ? SSE_TYPE : JSON_TYPE);
  const breaksAfter = fault?.kind === "broken_stream" || fault?.kind === "mid_stream_error"
    ? Math.min(fault.afterChunks, frames.length)
    : Infinity;
  for (let i = 0; i < frames.length && i < breaksAfter; i++) {
    if (i > 0) await exchange.wait(chunkDelayMs);
    const json = toJson(frames[i], encoding, !encoding.sse && encoding.pretty);
    const cutHere = fault?.kind === "malformed_json" && i === frames.length - 1;
    exchange.write(frame(cutHere ? json.slice(0, Math.ceil(json.length / 2)) : json, i));
  }
  if (fault?.kind === "broken_stream" && fault.how === "reset") {
    await exchange.cut();
    throw new ConnectionCut();
  }
  let written = Math.min(frames.length, breaksAfter);
  if (fault?.kind === "mid_stream_error") {
    const { body } = errorNamed(fault.error, at);
    const json = toJson(body, encoding, fault.as === "raw" || !encoding.sse);
    exchange.write(fault.as === "raw" ? `${json}\n` : frame(json, written));
    if (fault.as === "raw") return exchange.end();
    written++;
  }
  if (!encoding.sse) exchange.write(written === 0 ? `[${ARRAY_END}` : ARRAY_END);
  exchange.end();
}
