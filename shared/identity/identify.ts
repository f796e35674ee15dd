import type { Caller } from "../contract/caller.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import type { Access } from "../database/access.ts";
import { looksLikeConsumerSecret } from "../tokens/consumer_secret.ts";
import type { TokenRules } from "../tokens/token_rules.ts";
import { looksLikeJwt } from "../tokens/verify.ts";
import { addressOf } from "./address.ts";
import { type Credential, extractCredentials } from "./credentials.ts";
import { type VerifiedConsumer, verifyConsumerSecret } from "./consumer_keys.ts";
import { type ProjectKeys, type VerifiedKey, verifyProjectKey } from "./project_keys.ts";
import { type VerifiedToken, verifyScopedToken } from "./scoped_tokens.ts";
import { countingWrong } from "./wrong_credentials.ts";

export interface Authorities {
  project: ProjectKeys;
  tokens: TokenRules;
  access: Pick<Access, "authenticate" | "noteRefusal">;
  /** So that the audit of an expired token is written after the response has gone. */
  background: (task: Promise<void>) => void;
}

/** The function's name in the audit. */
const PLACE = "llm-invoke";

type Verified = VerifiedKey | VerifiedConsumer | VerifiedToken;

/**
 * Who sent a request: its credentials are extracted, then each of them verified, then the caller authorised. One that is
 * present but invalid is rejected, even beside a valid one.
 * @throws GatewayError `credential_missing`, `credential_invalid`, `credential_insufficient`, `consumer_disabled`,
 * `token_revoked`, `rate_limited`, `gateway_misconfigured`, `database_unavailable`
 */
export async function identify(request: Request, authorities: Authorities): Promise<Caller> {
  const verified: Verified[] = [];
  for (const credential of extractCredentials(request)) {
    verified.push(await verify(credential, authorities, request));
  }
  return authorise(verified);
}

async function verify(
  credential: Credential,
  { project, tokens, access, background }: Authorities,
  request: Request,
): Promise<Verified> {
  // The database itself counts the credentials that it refuses.
  if (looksLikeConsumerSecret(credential.value)) {
    return await verifyConsumerSecret(credential, access, addressOf(request));
  }
  try {
    return await countingWrong<Verified>(
      request,
      PLACE,
      access,
      () =>
        looksLikeJwt(credential.value)
          ? verifyScopedToken(credential, tokens)
          : verifyProjectKey(credential, project),
    );
  } catch (thrown) {
    // Its holder fetches another one, and need not wait for the audit.
    if (thrown instanceof GatewayError && thrown.code === "token_revoked") {
      background(access.noteRefusal(thrown.code, addressOf(request), PLACE).then(() => {}, () => {}));
    }
    throw thrown;
  }
}

/** The first credential names the caller; the publishable key is everybody's, so it names nobody. */
function authorise([caller]: Verified[]): Caller {
  if (caller === undefined) throw new GatewayError("credential_missing");
  switch (caller.kind) {
    case "publishable":
      throw new GatewayError("credential_insufficient");
    case "secret":
      return { kind: "project", consumerId: null, tokenId: null, name: caller.name };
    case "service":
      return { kind: "service", consumerId: caller.consumerId, tokenId: null, name: caller.name };
    case "notebook":
      throw new GatewayError("credential_insufficient", {
        message:
          "This is a notebook's enrolment secret, which may not call models. Exchange it for a token at issue-kaggle-token and send the token.",
      });
    case "token":
      return {
        kind: "notebook",
        consumerId: caller.consumerId,
        tokenId: caller.tokenId,
        name: caller.tokenId,
      };
  }
}
