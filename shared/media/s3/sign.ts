import { AwsV4Signer } from "aws4fetch";
import type { S3Settings } from "../settings.ts";

/** What is to be signed: the address follows from the key, in path style. */
export interface Unsigned {
  method: string;
  /** Absent: the bucket itself. */
  key?: string;
  query?: Record<string, string>;
  headers?: Record<string, string>;
}

/** SHA-256 of nothing, for requests without a body. */
export const EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

export interface Signer {
  /** Signed in its headers. All of them are part of the signature, so nothing on the way may change one. */
  header(request: Unsigned, sha256: string): Promise<{ url: string; headers: Headers }>;
  /** Signed in its query: anyone who has it may do it for `expiresIn` seconds, with exactly these headers. */
  query(request: Unsigned, expiresIn: number): Promise<{ url: string; expiresAt: Date }>;
}

/** AWS Signature, version 4. @param now milliseconds since 1970 */
export function createSigner(settings: S3Settings, now: () => number): Signer {
  const { endpoint, bucket, region, accessKeyId, secretAccessKey } = settings;
  // A day's signing key is derived once; aws4fetch keeps one for each day, and an instance lives for hours.
  const cache = new Map<string, ArrayBuffer>();
  const signer = (
    request: Unsigned,
    url: string,
    headers: Record<string, string>,
    signQuery: boolean,
    at: number,
  ) =>
    new AwsV4Signer({
      method: request.method,
      url,
      headers,
      accessKeyId,
      secretAccessKey,
      region,
      service: "s3",
      cache,
      signQuery,
      // Length and type too: otherwise anyone who has the address could send another type.
      allHeaders: true,
      datetime: amzDate(at),
    });
  const address = ({ key, query = {} }: Unsigned) => {
    const path = key === undefined ? "" : `/${key.split("/").map(rfc3986).join("/")}`;
    const pairs = Object.entries(query).map(([name, value]) => `${rfc3986(name)}=${rfc3986(value)}`);
    return `${endpoint}/${bucket}${path}${pairs.length === 0 ? "" : `?${pairs.join("&")}`}`;
  };
  return {
    async header(request, sha256) {
      const url = address(request);
      const headers = { ...request.headers, "x-amz-content-sha256": sha256 };
      const signed = await signer(request, url, headers, false, now()).sign();
      return { url, headers: signed.headers };
    },
    async query(request, expiresIn) {
      const at = Math.floor(now() / 1000) * 1000;
      const query = { ...request.query, "X-Amz-Expires": String(expiresIn) };
      const signed = await signer(request, address({ ...request, query }), request.headers ?? {}, true, at)
        .sign();
      // URLSearchParams writes a space as `+`, which not every store reads as one; a real plus is %2B by then.
      const url = signed.url.href.replace(/\+/g, "%20");
      return { url, expiresAt: new Date(at + expiresIn * 1000) };
    },
  };
}

/** Percent-encoding as signatures want it: all but unreserved characters (RFC 3986, 2.3). */
function rfc3986(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/** `20261122T164000Z` */
function amzDate(at: number): string {
  return new Date(at).toISOString().replace(/[:-]|\.\d{3}/g, "");
}
