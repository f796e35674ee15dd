import * as z from "zod";
import { parseJson } from "../http/json.ts";
import { type AskedScope, parseBudget, parseClass, parseScope } from "../tokens/scope.ts";
import { OauthError } from "./oauth_error.ts";

/** What a token is asked for with, still unverified. */
export interface TokenRequest {
  clientId: string | null;
  /** An enrolment secret or a secret key of the project. */
  clientSecret: string;
  scope: AskedScope;
  ttlSeconds: number | null;
}

/** The most characters of one parameter: a secret, or a scope of some hundred models. */
const MAX_PARAMETER_CHARS = 8_192;
/** More models than a gateway has. */
const MAX_MODELS = 200;

const parameter = z.union([z.string().max(MAX_PARAMETER_CHARS), z.number()]);
const parameters = z.record(
  z.string(),
  z.union([parameter, z.array(z.string().max(MAX_PARAMETER_CHARS)).max(MAX_MODELS), z.null()]),
);
type Parameters = z.output<typeof parameters>;

/**
 * Reads a request of RFC 6749, 4.4.2 (client credentials), form-encoded as there or as one JSON object. Beside `scope`
 * it takes the same in parameters of their own: `models`, `class`, `requests`, `tokens`, and `ttl` in seconds. Unknown
 * parameters are ignored (3.2).
 * @throws OauthError
 */
export function readTokenRequest(headers: Headers, body: Uint8Array): TokenRequest {
  const given = readParameters(headers.get("content-type") ?? "", body);
  const client = readClient(headers, given);
  const grantType = text(given, "grant_type");
  if (grantType === null) {
    throw new OauthError("invalid_request", "grant_type is missing: send client_credentials");
  }
  if (grantType !== "client_credentials") {
    throw new OauthError("unsupported_grant_type", "grant_type must be client_credentials");
  }
  return { ...client, scope: readScope(given), ttlSeconds: readTtl(given) };
}

function readParameters(contentType: string, body: Uint8Array): Parameters {
  const type = contentType.split(";")[0]!.trim().toLowerCase();
  if (type === "application/json") {
    const parsed = parameters.safeParse(parseJson(body));
    if (parsed.success) return parsed.data;
    throw new OauthError(
      "invalid_request",
      "the body must be one JSON object of texts, numbers and lists of texts",
    );
  }
  if (type !== "application/x-www-form-urlencoded") {
    throw new OauthError(
      "invalid_request",
      "content-type must be application/x-www-form-urlencoded or application/json",
    );
  }
  const form = new URLSearchParams(new TextDecoder().decode(body));
  // RFC 6749, 3.2. To search for each name would take a second for the 30,000 that such a body has room for.
  if (new Set(form.keys()).size < form.size) {
    throw new OauthError("invalid_request", "a parameter is there twice");
  }
  const parsed = parameters.safeParse(Object.fromEntries(form));
  if (parsed.success) return parsed.data;
  throw new OauthError("invalid_request", "a parameter is too long");
}

/** A parameter as text; sent without a value it counts as left out (RFC 6749, 3.2). */
function text(given: Parameters, name: string): string | null {
  const value = Object.hasOwn(given, name) ? given[name] : null;
  if (value === null || value === undefined || value === "") return null;
  if (Array.isArray(value)) throw new OauthError("invalid_request", `${name} must be one value`);
  return String(value);
}

/** The client's credentials, from exactly one place (RFC 6749, 2.3). */
function readClient(headers: Headers, given: Parameters): Pick<TokenRequest, "clientId" | "clientSecret"> {
  const authorization = headers.get("authorization")?.trim() ?? "";
  const [, scheme = "", value = ""] = /^(\S+) +(\S+)$/.exec(authorization) ?? [];
  const clientId = text(given, "client_id");
  const clientSecret = text(given, "client_secret");
  const found: Pick<TokenRequest, "clientId" | "clientSecret">[] = [];
  if (clientSecret !== null) found.push({ clientId, clientSecret });
  // The publishable key is everybody's: clients of Supabase add it to every request.
  const isKey = (key: string) => key !== "" && !key.startsWith("sb_publishable_");
  const apikey = headers.get("apikey")?.trim() ?? "";
  if (scheme.toLowerCase() === "basic") found.push({ clientId, ...basic(value) });
  else if (scheme.toLowerCase() === "bearer" && isKey(value)) found.push({ clientId, clientSecret: value });
  else if (authorization !== "" && scheme.toLowerCase() !== "bearer") {
    throw new OauthError("invalid_client", "the Authorization header must be Basic or Bearer");
  }
  if (isKey(apikey)) found.push({ clientId, clientSecret: apikey });
  const [client] = found;
  if (client === undefined) {
    throw new OauthError(
      "invalid_client",
      "send the enrolment secret as client_secret, or as the password of Basic",
    );
  }
  if (found.some((other) => other.clientSecret !== client.clientSecret)) {
    throw new OauthError("invalid_request", "more than one credential came with the request");
  }
  return client;
}

/** `id:secret`, each form-encoded before (RFC 6749, 2.3.1). */
function basic(value: string): Pick<TokenRequest, "clientSecret"> & Partial<TokenRequest> {
  try {
    const decoded = atob(value);
    const colon = decoded.indexOf(":");
    const [id = "", secret = ""] = [decoded.slice(0, Math.max(colon, 0)), decoded.slice(colon + 1)]
      .map((part) => decodeURIComponent(part.replaceAll("+", " ")));
    if (secret === "") throw new TypeError("no secret");
    return { clientSecret: secret, ...(id !== "" && { clientId: id }) };
  } catch {
    throw new OauthError(
      "invalid_client",
      "the Authorization header is not of the form Basic base64(id:secret)",
    );
  }
}

function readScope(given: Parameters): AskedScope {
  try {
    const words = parseScope(text(given, "scope") ?? "");
    const models = given.models;
    const names = Array.isArray(models)
      ? models
      : text(given, "models")?.split(/[\s,]+/).filter((name) => name !== "");
    const own: AskedScope = {
      ...(names !== undefined && { models: names }),
      ...ifGiven(given, "class", (value) => ({ class: parseClass(value) })),
      ...ifGiven(given, "requests", (value) => ({ requests: parseBudget("requests", value) })),
      ...ifGiven(given, "tokens", (value) => ({ tokens: parseBudget("tokens", value) })),
    };
    if (Object.keys(own).some((name) => Object.hasOwn(words, name))) {
      throw new TypeError("a part of the scope is given twice, in scope and in a parameter of its own");
    }
    return { ...words, ...own };
  } catch (thrown) {
    if (thrown instanceof TypeError) throw new OauthError("invalid_scope", thrown.message);
    throw thrown;
  }
}

function readTtl(given: Parameters): number | null {
  const ttl = text(given, "ttl");
  if (ttl === null) return null;
  try {
    return parseBudget("ttl", ttl);
  } catch {
    throw new OauthError("invalid_scope", "ttl must be a whole number of seconds");
  }
}

function ifGiven<T extends object>(
  given: Parameters,
  name: string,
  read: (value: string) => T,
): T | undefined {
  const value = text(given, name);
  return value === null ? undefined : read(value);
}
