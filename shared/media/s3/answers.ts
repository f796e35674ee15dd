import type { ObjectFacts } from "../object_store.ts";
import { failed } from "./transport.ts";

/** What the headers of an object's answer say of it. @throws GatewayError `storage_failed`: not even its length */
export function factsOf({ headers }: Response, operation: string): ObjectFacts {
  const whole = /\/(\d{1,15})$/.exec(headers.get("content-range") ?? "")?.[1] ??
    headers.get("content-length");
  if (whole === null || !/^\d{1,15}$/.test(whole)) throw failed(operation, "an object without a length");
  const modified = headers.get("last-modified");
  return {
    sizeBytes: Number(whole),
    contentType: headers.get("content-type"),
    contentEncoding: headers.get("content-encoding"),
    etag: unquoted(headers.get("etag")),
    lastModified: dateOf(modified),
  };
}

/** Some stores encode keys, as they are asked to, and some say nothing of it and do not. */
export function keyDecoder(encoding: string | null): (key: string) => string {
  return encoding === "url" ? (key) => decodeURIComponent(key.replace(/\+/g, " ")) : (key) => key;
}

export function unquoted(etag: string | null): string | null {
  return etag?.replace(/^W\//, "").replace(/^"(.*)"$/, "$1") || null;
}

export function dateOf(text: string | null): Date | null {
  const at = Date.parse(text ?? "");
  return Number.isNaN(at) ? null : new Date(at);
}
