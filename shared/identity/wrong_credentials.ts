import { GatewayError } from "../contract/gateway_error.ts";
import type { Access } from "../database/access.ts";
import { addressOf } from "./address.ts";

/** Too many wrong credentials came from the caller's network. A right one is accepted all the same. */
export function tooManyWrong(retryAfterMs: number | null): GatewayError {
  return new GatewayError("rate_limited", {
    message:
      "Too many wrong credentials came from your network in this minute. Check that yours is complete, current and of this project.",
    retryAfterMs,
    details: { limit: "wrong_credentials", retry_after_ms: retryAfterMs },
  });
}

/**
 * Verifies, and counts what is wrong against the network that it came from.
 * @param place the function that was asked, for the audit
 * @throws GatewayError as `verify` does; `rate_limited` in place of `credential_invalid` where too many were wrong
 */
export async function countingWrong<Verified>(
  request: Request,
  place: string,
  access: Pick<Access, "noteRefusal">,
  verify: () => Promise<Verified>,
): Promise<Verified> {
  try {
    return await verify();
  } catch (thrown) {
    if (!(thrown instanceof GatewayError && thrown.code === "credential_invalid")) throw thrown;
    // A database that does not answer changes nothing about the credential.
    const retryAfterMs = await access.noteRefusal(thrown.code, addressOf(request), place).catch(() => null);
    throw retryAfterMs === null ? thrown : tooManyWrong(retryAfterMs);
  }
}
