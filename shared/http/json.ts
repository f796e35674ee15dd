import { GatewayError } from "../contract/gateway_error.ts";
import { JsonMeter, jsonSize } from "./json_size.ts";

/**
 * How deep arrays and objects may nest: Google's own parser stops at 100. What is deeper would overflow the stack of
 * code that walks it later, `JSON.stringify` included.
 */
export const MAX_JSON_DEPTH = 100;

/**
 * Values and names in a body, as `jsonSize` counts them: a conversation of 4,000 messages. A value costs far more
 * than its bytes, in memory (an empty array is two bytes of text and some forty of memory) and in time: to find what is
 * wrong with 50,000 empty objects takes 0.3 s of the processor (2 GHz, one core), in which nobody else is served.
 */
export const MAX_JSON_VALUES = 25_000;

/** Values that may still be parsed, where one request holds several JSON texts. */
export interface JsonAllowance {
  values: number;
}

/** Counts what a body holds while it arrives, so that one of too many values is never read to its end. */
export class JsonCount {
  readonly #meter = new JsonMeter({ values: MAX_JSON_VALUES, depth: MAX_JSON_DEPTH });

  get values(): number {
    return this.#meter.size.values;
  }

  /** @throws GatewayError `invalid_json` for what is nested too deeply, `body_too_large` for too many values */
  add(piece: Uint8Array): void {
    if (this.#meter.add(piece)) return;
    if (this.#meter.size.depth > MAX_JSON_DEPTH) {
      throw invalid(`The body nests deeper than ${MAX_JSON_DEPTH} levels.`);
    }
    throw tooManyValues();
  }
}

/**
 * Bytes to a JSON value.
 * @throws GatewayError `invalid_json` for what is no UTF-8, no JSON, or nested too deeply, `body_too_large` for too many values
 */
export function parseJson(bytes: Uint8Array): unknown {
  new JsonCount().add(bytes);
  return parseText(jsonText(bytes));
}

/**
 * The text of a body.
 * @throws GatewayError `invalid_json` for what is no UTF-8, or nothing
 */
export function jsonText(bytes: Uint8Array): string {
  if (bytes.byteLength === 0) throw invalid("The body is empty. Send a JSON object.");
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw invalid("The body is not valid UTF-8.");
  }
}

/**
 * The value of a text whose values have been counted.
 * @throws GatewayError `invalid_json`
 */
export function parseText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    // The engine's message tells the position; it quotes the body, which goes back to its author alone.
    throw invalid(
      `The body is not valid JSON: ${error instanceof Error ? error.message : "cannot be parsed"}.`,
    );
  }
}

/**
 * An object or a list that a client wrote as JSON into a text of its body, which the body's own count has passed over;
 * undefined: it is none, or is nested too deeply.
 * @throws GatewayError `body_too_large` when the allowance is used up
 */
export function parseInnerJson(text: string, allowance: JsonAllowance): unknown {
  // Prose has commas too, and is charged nothing.
  if (!/^\s*[[{]/.test(text)) return undefined;
  const size = jsonSize(new TextEncoder().encode(text), { values: allowance.values, depth: MAX_JSON_DEPTH });
  if (size.depth > MAX_JSON_DEPTH) return undefined;
  if (size.values > allowance.values) throw tooManyValues();
  allowance.values -= size.values;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function invalid(message: string): GatewayError {
  return new GatewayError("invalid_json", { message });
}

function tooManyValues(): GatewayError {
  return new GatewayError("body_too_large", {
    message:
      `The body holds more than ${MAX_JSON_VALUES} values. Send fewer, for example data as one text instead of a list.`,
    details: { max_values: MAX_JSON_VALUES },
  });
}
