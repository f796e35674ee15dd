import { GatewayError } from "../contract/gateway_error.ts";
import { BODY_TIMEOUT_MS, readBody } from "./body.ts";
import type { JsonBodyTerms } from "./json_body.ts";
import { BODY_COPIES } from "./work_budget.ts";

/**
 * A request's body as a multipart form, for callers whose credential has been verified.
 * @throws GatewayError `body_too_large`, `body_timeout`, `gateway_busy`, `invalid_request`, what `confirmCaller` throws
 */
export async function readFormBody(
  request: Request,
  { maxBytes, clock, work, confirmCaller }: JsonBodyTerms,
): Promise<FormData> {
  const contentType = request.headers.get("content-type") ?? "";
  if (!/^multipart\/form-data\b/i.test(contentType)) {
    throw new GatewayError("invalid_request", {
      message: "The body must be a multipart form (content-type: multipart/form-data).",
    });
  }
  const bytes = await readBody(request, {
    maxBytes,
    timeoutMs: BODY_TIMEOUT_MS,
    clock,
    onBytes: (count) => work.add(count * BODY_COPIES),
    onLarge: confirmCaller,
  });
  try {
    return await new Response(bytes as Uint8Array<ArrayBuffer>, { headers: { "content-type": contentType } })
      .formData();
  } catch {
    throw new GatewayError("invalid_request", {
      message: "The body is no multipart form, or it breaks off.",
    });
  }
}
