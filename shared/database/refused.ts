import * as z from "zod";
import { isErrorCode } from "../contract/errors.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import { asExpected, call } from "./transport/call.ts";
import type { Transport } from "./transport/transport.ts";

const refused = z.object({
  status: z.literal("refused"),
  code: z.string(),
  message: z.string().optional(),
  details: z.unknown().optional(),
  retry_after_ms: z.number().optional(),
});

/**
 * Calls a SQL function that may refuse (eve.refused) instead of answering what `shape` says.
 * @throws GatewayError with the refusal's code, message and details; and as `call` does
 */
export async function callUnlessRefused<Shape extends z.ZodType>(
  transport: Transport,
  sqlFunction: string,
  args: Record<string, unknown>,
  shape: Shape,
  timeoutMs: number,
): Promise<z.output<Shape>> {
  return asExpected(
    sqlFunction,
    notRefused(await call(transport, sqlFunction, args, z.unknown(), timeoutMs)),
    shape,
  );
}

function notRefused(answer: unknown): unknown {
  const refusal = refused.safeParse(answer);
  if (!refusal.success) return answer;
  const { code, message, details, retry_after_ms } = refusal.data;
  if (!isErrorCode(code)) {
    throw new GatewayError("internal", { detail: `the database refused with an unknown code: ${code}` });
  }
  throw new GatewayError(code, {
    ...(message !== undefined && { message }),
    ...(details !== undefined && { details }),
    retryAfterMs: retry_after_ms ?? null,
  });
}
