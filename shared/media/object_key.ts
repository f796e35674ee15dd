import { GatewayError } from "../contract/gateway_error.ts";

/** S3's own bound, in bytes of UTF-8. */
const MAX_KEY_BYTES = 1_024;
/** What some store does not take or takes as something else: Cloud.ru refuses these. Control characters are no part of an XML answer. */
// deno-lint-ignore no-control-regex
const FORBIDDEN = /[:*?"<>|!\\\u0000-\u001f\u007f\ufffe\uffff]/u;

/**
 * The key as it is, if a URL can name it: for objects that others may have put.
 * @throws GatewayError `storage_key_invalid`, its message naming what is wrong
 */
export function addressableKey(key: string): string {
  return orThrow(key, unaddressable(key));
}

/**
 * The key as it is, if every store takes it: 1 to 1,024 bytes of UTF-8, none of `: * ? " < > | ! \` and no control character,
 * no `/` at an end or twice in a row, and no part that is `.` or `..`, which URLs resolve.
 * @throws GatewayError `storage_key_invalid`, its message naming what is wrong
 */
export function checkedKey(key: string): string {
  return orThrow(key, unaddressable(key) ?? unusual(key));
}

function orThrow(key: string, wrong: string | null): string {
  if (wrong !== null) throw new GatewayError("storage_key_invalid", { message: `The storage key ${wrong}.` });
  return key;
}

function unaddressable(key: string): string | null {
  if (key === "") return "is empty";
  if (!key.isWellFormed()) return "holds half of a character";
  if (new TextEncoder().encode(key).byteLength > MAX_KEY_BYTES) return `has more than ${MAX_KEY_BYTES} bytes`;
  const part = key.split("/").find((part) => part === "." || part === "..");
  return part === undefined ? null : `holds the part ${part}, which addresses resolve`;
}

function unusual(key: string): string | null {
  const forbidden = FORBIDDEN.exec(key)?.[0];
  if (forbidden !== undefined) return `holds ${JSON.stringify(forbidden)}, which not every store takes`;
  return key.split("/").includes("") ? "begins or ends with a slash, or holds two in a row" : null;
}

/** A part of a key that comes from outside: a tenant, a model, a schema version. */
const PART = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$/;
const SHA256 = /^[0-9a-f]{64}$/;

/** `vision/{tenant}/{sha256}_{model}_v{schema}.json`. A model's `/` becomes `_`. @throws GatewayError `storage_key_invalid` */
export function visionKey(tenant: string, sha256: string, model: string, schemaVersion: string): string {
  const hash = held(SHA256, "SHA-256", sha256);
  const name = held(PART, "model", model.replaceAll("/", "_"));
  return `vision/${held(PART, "tenant", tenant)}/${hash}_${name}_v${
    held(PART, "schema version", schemaVersion)
  }.json`;
}

function held(rule: RegExp, what: string, text: string): string {
  if (rule.test(text)) return text;
  throw new GatewayError("storage_key_invalid", {
    message: `The storage key's ${what} must match ${rule.source}, not ${
      JSON.stringify(text.slice(0, 100))
    }.`,
  });
}
