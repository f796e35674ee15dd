import { GatewayError } from "../contract/gateway_error.ts";
import type { NoteError } from "../contract/note_error.ts";
import {
  createFunction,
  type FunctionOptions,
  type FunctionRequest,
  methodNotAllowed,
} from "../http/function_shell.ts";
import { jsonResponse } from "../http/json_response.ts";
import { retryHeaders } from "../http/rate_limit_headers.ts";
import type { Access, Issue, Proof } from "../database/access.ts";
import { looksLikeConsumerSecret, readConsumerSecret } from "../tokens/consumer_secret.ts";
import { formatScope } from "../tokens/scope.ts";
import { signToken } from "../tokens/sign.ts";
import type { TokenRules } from "../tokens/token_rules.ts";
import { addressOf } from "./address.ts";
import { asOauthError, OauthError } from "./oauth_error.ts";
import { type ProjectKeys, verifyProjectKey } from "./project_keys.ts";
import { readTokenRequest, type TokenRequest } from "./token_request.ts";

export interface TokenEndpointDependencies {
  project: ProjectKeys;
  tokens: TokenRules;
  access: Pick<Access, "issueToken" | "noteRefusal">;
  noteError?: NoteError;
}

/** A request is a handful of short parameters. */
const MAX_BODY_BYTES = 64 * 1024;

/** Takes the place of a malformed secret, so that it costs what a wrong one costs. */
const NOBODY: Proof = { keyId: "none", proof: "0".repeat(64) };

/** RFC 6749, 5.1: no cache may store an answer with a token. `jsonResponse` says `no-store` already. */
const NO_CACHE = { pragma: "no-cache" };

/**
 * The token endpoint of OAuth 2.0 (RFC 6749, 3.2) for the client credentials grant (4.4): a notebook's enrolment secret, or
 * the project's secret key and a consumer's name, for a token that ends by itself.
 */
export function createTokenEndpoint(
  options: FunctionOptions<TokenEndpointDependencies>,
): (request: Request) => Promise<Response> {
  const errorResponse = (error: GatewayError, requestId: string) => refused(asOauthError(error), requestId);
  return createFunction(options, {
    maxBodyBytes: MAX_BODY_BYTES,
    errorResponse,
    noteError: (error, _, { noteError }) => noteError?.(error, null),
    routes(app, dependencies) {
      app.all("/", async ({ env: received, req }) => {
        if (req.method !== "POST") throw methodNotAllowed(["POST", "OPTIONS"]);
        try {
          return await answer(received, dependencies);
        } catch (thrown) {
          if (!(thrown instanceof OauthError)) throw thrown;
          received.attributes = { "eve.outcome": "failed", "error.type": thrown.code };
          return refused(thrown, received.requestId);
        }
      });
    },
  });
}

function refused(error: OauthError, requestId: string): Response {
  return jsonResponse(error.status, error, requestId, { ...NO_CACHE, ...error.headers });
}

async function answer(
  received: FunctionRequest,
  { project, tokens, access, noteError }: TokenEndpointDependencies,
): Promise<Response> {
  const { request, requestId } = received;
  const address = addressOf(request);
  /** What the database refuses, it has counted itself. */
  const noted = async <Value>(work: () => Promise<Value>): Promise<Value> => {
    try {
      return await work();
    } catch (thrown) {
      if (thrown instanceof OauthError) noteError?.(thrown, null);
      throw thrown;
    }
  };
  const asked = await noted(async () => readTokenRequest(request.headers, await received.readBytes()));
  const who = await noted(() => client(asked, project, access, address));
  // Before anything is written down: a token that nobody can sign is not issued.
  if (tokens.keys.length === 0) {
    throw new GatewayError("gateway_misconfigured", {
      detail: "settings: EVE_TOKEN_SIGNING_KEYS is not set",
    });
  }
  const issue = await access.issueToken({
    ...who,
    address,
    models: asked.scope.models ?? null,
    class: asked.scope.class ?? null,
    requests: asked.scope.requests ?? null,
    tokens: asked.scope.tokens ?? null,
    scopes: asked.scope.scopes ?? null,
    ttlSeconds: asked.ttlSeconds,
  });
  if (issue.status === "refused") throw oauthErrorOf(issue);
  const token = await signToken({
    tokenId: issue.tokenId,
    consumerId: issue.consumerId,
    scope: issue,
    issuedAt: issue.issuedAt,
    expiresAt: issue.expiresAt,
  }, tokens);
  return jsonResponse(
    200,
    {
      access_token: token,
      token_type: "Bearer",
      expires_in: issue.expiresAt - issue.issuedAt,
      scope: formatScope(issue),
    },
    requestId,
    NO_CACHE,
  );
}

/** Who asks: the holder of an enrolment secret, or the project itself for one of its consumers. */
async function client(
  { clientId, clientSecret }: TokenRequest,
  project: ProjectKeys,
  access: Pick<Access, "noteRefusal">,
  address: string | null,
): Promise<{ proof: Proof | null; consumer: string | null }> {
  if (looksLikeConsumerSecret(clientSecret)) {
    const secret = await readConsumerSecret(clientSecret);
    const proof = secret ?? NOBODY;
    return { proof, consumer: clientId === proof.keyId ? null : clientId };
  }
  let isProject: boolean;
  try {
    isProject =
      (await verifyProjectKey({ from: "authorization", value: clientSecret }, project)).kind === "secret";
  } catch (thrown) {
    if (!(thrown instanceof GatewayError && thrown.status === 401)) throw thrown;
    isProject = false;
  }
  if (!isProject) {
    const retryAfterMs = await access.noteRefusal("invalid_client", address, "issue-kaggle-token");
    throw retryAfterMs === null ? invalidClient() : tooMany(retryAfterMs);
  }
  if (clientId === null) {
    throw new OauthError(
      "invalid_request",
      "with the project's secret key, name the consumer as client_id",
    );
  }
  return { proof: null, consumer: clientId };
}

function oauthErrorOf(issue: Extract<Issue, { status: "refused" }>): OauthError {
  switch (issue.code) {
    case "invalid_client":
      return invalidClient();
    case "rate_limited":
      return tooMany(issue.retryAfterMs);
    default:
      return new OauthError(issue.code, issue.detail ?? "not allowed");
  }
}

/** From one consumer, or with wrong secrets from one network. */
function tooMany(retryAfterMs: number | null): OauthError {
  return new OauthError(
    "temporarily_unavailable",
    "too many tokens were asked for: use the one you have, and come back after retry-after",
    429,
    retryHeaders(retryAfterMs),
  );
}

/** The same words for a wrong secret and for an unknown consumer. */
function invalidClient(): OauthError {
  return new OauthError(
    "invalid_client",
    "the credential is not valid: check that it is complete, current and of this project",
  );
}
