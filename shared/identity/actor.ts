import { decodeProtectedHeader } from "jose";
import type { Actor } from "../contract/actor.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import type { Access } from "../database/access.ts";
import { looksLikeConsumerSecret } from "../tokens/consumer_secret.ts";
import { TOKEN_TYPE, type TokenRules } from "../tokens/token_rules.ts";
import { looksLikeJwt } from "../tokens/verify.ts";
import { addressOf } from "./address.ts";
import { verifyConsumerSecret } from "./consumer_keys.ts";
import { type Credential, extractCredentials } from "./credentials.ts";
import { type ProjectKeys, verifyProjectKey } from "./project_keys.ts";
import { verifyScopedToken } from "./scoped_tokens.ts";
import { userOfSession } from "./session.ts";
import { countingWrong } from "./wrong_credentials.ts";

export interface ActorTerms {
  project: ProjectKeys;
  /** With which the Auth API is asked about sessions. */
  apiKey: string;
  tokens: TokenRules;
  access: Pick<Access, "authenticate" | "noteRefusal">;
  fetch: typeof fetch;
  /** How the audit calls the function. */
  place: string;
}

/**
 * Who sent a request, as the database is told: the project by its secret key, a consumer by its key or by a token, or a signed-in user.
 * For whom they may act is the database's to say. A credential that is present but invalid is rejected, even beside a valid one.
 * @throws GatewayError `credential_missing`, `credential_invalid`, `credential_insufficient`, `consumer_disabled`, `token_revoked`,
 * `rate_limited`, `database_unavailable`
 */
export async function identifyActor(request: Request, terms: ActorTerms): Promise<Actor> {
  const found: (Actor | null)[] = [];
  for (const credential of extractCredentials(request)) {
    // Google's clients send theirs so; here it is the key of a file.
    if (credential.from === "key") continue;
    found.push(await actorOf(credential, terms, request));
  }
  const actor = found.find((each) => each !== null);
  if (actor) return actor;
  throw new GatewayError("credential_missing", {
    message: found.length === 0
      ? "No credential came with the request. Send the project's secret key, a service's key, a notebook's token or a signed-in user's access token."
      : "The publishable key alone opens nothing here. Sign in, and send the session's access token as `Authorization: Bearer`.",
  });
}

/** Null: the publishable key, which is everybody's. */
async function actorOf(credential: Credential, terms: ActorTerms, request: Request): Promise<Actor | null> {
  const { access, place } = terms;
  // The database counts those that it refuses itself.
  if (looksLikeConsumerSecret(credential.value)) {
    const { kind, consumerId } = await verifyConsumerSecret(credential, access, addressOf(request));
    if (kind === "service") return { kind: "consumer", consumer_id: consumerId, token_id: null };
    throw new GatewayError("credential_insufficient", {
      message:
        "This is a notebook's enrolment secret. Exchange it for a token at issue-kaggle-token and send the token.",
    });
  }
  return await countingWrong(request, place, access, async () => {
    if (!looksLikeJwt(credential.value)) {
      return (await verifyProjectKey(credential, terms.project)).kind === "secret"
        ? { kind: "project" }
        : null;
    }
    if (isScopedToken(credential.value)) {
      const { consumerId, tokenId } = await verifyScopedToken(credential, terms.tokens);
      return { kind: "consumer", consumer_id: consumerId, token_id: tokenId };
    }
    const { id } = await userOfSession(credential, {
      projectUrl: terms.project.url,
      apiKey: terms.apiKey,
      fetch: terms.fetch,
    });
    return { kind: "user", user_id: id };
  });
}

/** By what it says of itself: whichever it is taken for, it is verified as that. */
function isScopedToken(token: string): boolean {
  try {
    return decodeProtectedHeader(token).typ === TOKEN_TYPE;
  } catch {
    return false;
  }
}
