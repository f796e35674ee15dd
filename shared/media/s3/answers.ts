import type { ObjectFacts } from "../object_store.ts";

/** What is stored packed says so twice: Supabase Storage keeps metadata, and forgets `Content-Encoding`. */
const PACKED = "x-amz-meta-content-encoding";

/** The headers of an object that is put. */
export function encodingHeaders(contentEncoding: "gzip" | undefined): Record<string, string> {
  return contentEncoding === undefined
    ? {}
    : { "content-encoding": contentEncoding, [PACKED]: contentEncoding };
}

/**
 * What the headers of an object's answer say of it. Null: not its length, though every store sends it. Deno 2.1, which hosted
 * functions run on, unpacks an answer with `Content-Encoding: gzip` whatever was asked for, and takes both headers away, from the
 * answer to a HEAD too.
 */
export function factsOf({ headers }: Response): ObjectFacts | null {
  const whole = /\/(\d{1,15})$/.exec(headers.get("content-range") ?? "")?.[1] ??
    headers.get("content-length");
  if (whole === null || !/^\d{1,15}$/.test(whole)) return null;
  const contentEncoding = headers.get("content-encoding") ?? headers.get(PACKED);
  return { ...otherFacts(headers), sizeBytes: Number(whole), contentEncoding };
}

/** The same of an answer that the runtime has unpacked. @param sizeBytes as stored, from elsewhere */
export function factsOfUnpacked({ headers }: Response, sizeBytes: number): ObjectFacts {
  return { ...otherFacts(headers), sizeBytes, contentEncoding: "gzip" };
}

function otherFacts(headers: Headers): Pick<ObjectFacts, "contentType" | "etag" | "lastModified"> {
  return {
    contentType: headers.get("content-type"),
    etag: unquoted(headers.get("etag")),
    lastModified: dateOf(headers.get("last-modified")),
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
