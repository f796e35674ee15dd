import type * as z from "zod";
import { setTimer, systemClock } from "../../runtime/clock.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import { jsonbSafe } from "./jsonb_safe.ts";
import { asLedgerError } from "./database_error.ts";
import type { Transport } from "./transport.ts";

/**
 * Calls a SQL function and checks what it answers.
 * @throws GatewayError as database_error.ts classifies it; `internal` when the answer is not what `shape` says
 */
export async function call<Shape extends z.ZodType>(
  transport: Transport,
  sqlFunction: string,
  args: Record<string, unknown>,
  shape: Shape,
  timeoutMs: number,
): Promise<z.output<Shape>> {
  let said: unknown;
  // Not `AbortSignal.timeout`: its timer would stay for the whole time, long after the call.
  const giveUp = new AbortController();
  const clearTimer = setTimer(
    systemClock,
    timeoutMs,
    () => giveUp.abort(new DOMException(`no answer within ${timeoutMs} ms`, "TimeoutError")),
  );
  try {
    said = await transport(sqlFunction, safeArguments(args), giveUp.signal);
  } catch (thrown) {
    throw asLedgerError(thrown, sqlFunction);
  } finally {
    clearTimer();
  }
  return asExpected(sqlFunction, said, shape);
}

/** @throws GatewayError `internal` when an answer is not what `shape` says */
export function asExpected<Shape extends z.ZodType>(
  sqlFunction: string,
  said: unknown,
  shape: Shape,
): z.output<Shape> {
  const answer = shape.safeParse(said);
  if (answer.success) return answer.data;
  throw new GatewayError("internal", {
    detail: `${sqlFunction} answered what this version does not know: ${answer.error.message}`,
  });
}

/** Their names are ours; what they hold may be anybody's. */
function safeArguments(args: Record<string, unknown>): Record<string, unknown> {
  let safe = args;
  for (const name in args) {
    const value = jsonbSafe(args[name]);
    if (value !== args[name]) safe = { ...safe, [name]: value };
  }
  return safe;
}
