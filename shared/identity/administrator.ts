import type { Administrator } from "../contract/caller.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import type { Stages } from "../database/stages.ts";
import { looksLikeJwt } from "../tokens/verify.ts";
import { type Credential, extractCredentials } from "./credentials.ts";
import { type ProjectKeys, verifyProjectKey } from "./project_keys.ts";
import { userOfSession } from "./session.ts";

export interface AdministratorTerms {
  project: ProjectKeys;
  /** The key with which the Auth API is called. */
  apiKey: string;
  stages: Pick<Stages, "isAdministrator">;
  fetch: typeof fetch;
}

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
    // Google's clients send theirs so; here it is the alias that a list is filtered by.
    if (credential.from === "key") continue;
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
  const { id, email } = await userOfSession(credential, { projectUrl: project.url, apiKey, fetch });
  if (!await stages.isAdministrator(id)) {
    throw new GatewayError("credential_insufficient", {
      message:
        'You are signed in, but not as an administrator. The owner of the project can make you one: app_metadata must say {"role": "admin"}.',
    });
  }
  return { kind: "user", id, email, name: email ?? id };
}
