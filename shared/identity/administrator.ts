import { z } from "zod";
import type { Administrator } from "../contract/caller.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import type { Stages } from "../database/stages.ts";
import { looksLikeJwt } from "../tokens/verify.ts";
import { type Credential, extractCredentials, notValid } from "./credentials.ts";
import { type ProjectKeys, verifyProjectKey } from "./project_keys.ts";

export interface AdministratorTerms {
  project: ProjectKeys;
  /** The key with which the Auth API is called. */
  apiKey: string;
  stages: Pick<Stages, "isAdministrator">;
  fetch: typeof fetch;
}

/** The Auth API answers from its own database; a person waits for it. */
const AUTH_TIMEOUT_MS = 8_000;

const user = z.object({ id: z.uuid(), email: z.string().nullish() });

/**
 * The administrator who sent a request: a signed-in user whose row says so at this moment, or the holder of the
 * project's secret key. A session is verified by the Auth API, so one that was ended is refused even if its token has not expired.
 * @throws GatewayError `credential_missing`, `credential_invalid`, `credential_insufficient`, `database_unavailable`
 */
export async function identifyAdministrator(
  request: Request,
  terms: AdministratorTerms,
): Promise<Administrator> {
  const found: (Administrator | null)[] = [];
  for (const credential of extractCredentials(request)) {
    found.push(
      looksLikeJwt(credential.value)
        ? await administratorOfSession(credential, terms)
        : await administratorOfKey(credential, terms),
    );
  }
  const administrator = found.find((each) => each !== null);
  if (administrator) return administrator;
  throw new GatewayError("credential_missing", {
    message: found.length === 0
      ? "No credential came with the request. Sign in, and send the session's access token as `Authorization: Bearer`."
      : "The publishable key alone opens nothing here. Sign in, and send the session's access token as `Authorization: Bearer`.",
  });
}

/** Null: the publishable key, which is everybody's. */
async function administratorOfKey(
  credential: Credential,
  { project }: AdministratorTerms,
): Promise<Administrator | null> {
  const { kind, name } = await verifyProjectKey(credential, project);
  return kind === "secret" ? { kind: "project", id: null, email: null, name: `secret key ${name}` } : null;
}

async function administratorOfSession(
  credential: Credential,
  { project, apiKey, stages, fetch }: AdministratorTerms,
): Promise<Administrator> {
  let response: Response;
  try {
    response = await fetch(`${project.url}/auth/v1/user`, {
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
  const { id, email = null } = known.data;
  if (!await stages.isAdministrator(id)) {
    throw new GatewayError("credential_insufficient", {
      message:
        'You are signed in, but not as an administrator. The owner of the project can make you one: app_metadata must say {"role": "admin"}.',
    });
  }
  return { kind: "user", id, email, name: email ?? id };
}
