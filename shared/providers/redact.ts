/** Google names a key's consumer as `api_key:AIza...` in some messages; whichever key it is, it goes no further. */
const NAMED_KEY = /api_key:[^\s'",}]+/g;

/** `text` without the key, in case upstream repeated it. */
export function redact(text: string, secret: string): string {
  const named = text.replace(NAMED_KEY, "api_key:[redacted]");
  return secret === "" ? named : named.replaceAll(secret, "[redacted]");
}
