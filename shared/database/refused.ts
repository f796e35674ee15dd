import { z } from "zod";
import { isErrorCode } from "../contract/errors.ts";
import { GatewayError } from "../contract/gateway_error.ts";

const refused = z.object({
  status: z.literal("refused"),
  code: z.string(),
  message: z.string().optional(),
  details: z.unknown().optional(),
  retry_after_ms: z.number().optional(),
});

/**
 * A function's answer, which is no refusal (eve.refused).
 * @throws GatewayError with the refusal's code, message and details
 */
export function notRefused<Answer>(answer: Answer): Answer {
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
