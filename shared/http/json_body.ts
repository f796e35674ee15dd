import type { Clock } from "../runtime/clock.ts";
import { BODY_TIMEOUT_MS, LARGE_BODY_BYTES, readBody } from "./body.ts";
import { JsonCount, jsonText, parseText } from "./json.ts";
import { BODY_COPIES, VALUE_BYTES, type Work } from "./work_budget.ts";

export interface JsonBodyTerms {
  maxBytes: number;
  clock: Clock;
  /** What the request may take of the instance's memory, and of its time. */
  work: Work;
  /** Asks whether the caller, whose credential has been verified, may still call. Absent: that is known already. */
  confirmCaller?: (() => Promise<void>) | undefined;
}

/**
 * A request's body as JSON, for callers whose credential has been verified. Each step costs less than the one it allows:
 * the length that was announced, the caller (for large bodies), the bytes and the number of values in them as they arrive,
 * and then, one large body after the other, the values.
 * @throws GatewayError `body_too_large`, `body_timeout`, `gateway_busy`, `invalid_json`, what `confirmCaller` throws
 */
export async function readJsonBody(request: Request, terms: JsonBodyTerms): Promise<unknown> {
  const { maxBytes, clock, work, confirmCaller } = terms;
  const count = new JsonCount();
  const bytes = await readBody(request, {
    maxBytes,
    timeoutMs: BODY_TIMEOUT_MS,
    clock,
    onBytes: (announced) => work.add(announced * BODY_COPIES),
    onPiece: (piece) => count.add(piece),
    onLarge: confirmCaller,
  });
  work.add(count.values * VALUE_BYTES);
  await work.turn(clock);
  const text = jsonText(bytes);
  // The garbage collector waits for tens of megabytes of it.
  if (bytes.byteLength > LARGE_BODY_BYTES) release(bytes);
  return parseText(text);
}

/** Gives a buffer's memory back at once. */
function release({ buffer }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer) buffer.transfer(0);
}
