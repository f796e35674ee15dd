import * as z from "zod";
import { GatewayError } from "../contract/gateway_error.ts";
import { type Credential, notValid } from "./credentials.ts";

export interface SessionTerms {
  projectUrl: string;
  /** With which the Auth API is asked. */
  apiKey: string;
  fetch: typeof fetch;
}

/** The Auth API answers from its own database; a person waits for it. */
const AUTH_TIMEOUT_MS = 8_000;

const user = z.object({ id: z.uuid(), email: z.string().nullish() });

/**
 * The user whose session it is. The Auth API is asked, so a session that was ended is refused even if its token has not expired.
 * @throws GatewayError `credential_invalid`, `database_unavailable`
 */
export async function userOfSession(
  credential: Credential,
  { projectUrl, apiKey, fetch }: SessionTerms,
): Promise<{ id: string; email: string | null }> {
  let response: Response;
  try {
    response = await fetch(`${projectUrl}/auth/v1/user`, {
      headers: { apikey: apiKey, authorization: `Bearer ${credential.value}` },
      redirect: "manual",
      signal: AbortSignal.timeout(AUTH_TIMEOUT_MS),
    });
  } catch (thrown) {
    throw new GatewayError("database_unavailable", { detail: `Auth API: ${thrown}`, cause: thrown });
  }
  if (response.status >= 400 && response.status < 500) {
    response.body?.cancel().catch(() => {});
    throw notValid(credential.from, "It is no session of this project, or one that is over: sign in again.");
  }
  const known = user.safeParse(response.ok ? await response.json().catch(() => null) : null);
  if (!known.success) {
    throw new GatewayError("database_unavailable", {
      detail: `Auth API: status ${response.status}, and no user`,
    });
  }
  return { id: known.data.id, email: known.data.email ?? null };
}
