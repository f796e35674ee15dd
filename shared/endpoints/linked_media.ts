import type { Clock } from "../runtime/clock.ts";
import type { InlineData } from "../contract/content.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import type { Connect } from "../http/outgoing/pinned_request.ts";
import { fetchPublic } from "../http/outgoing/public_fetch.ts";
import { PublicFetchError } from "../http/outgoing/public_target.ts";
import { toBase64 } from "../runtime/base64.ts";
import type { RequestContext } from "./endpoint.ts";
import { invalidRequest } from "./validated.ts";

/** Pictures behind links of one request. */
const MAX_LINKED_IMAGES = 16;
/** For all of them together: what Google takes inline, and what a function's memory bears as bytes and as base64. */
const MAX_LINKED_BYTES = 10 * 1024 * 1024;
/** For all of them: they are fetched before the request is admitted, and a picture that takes longer is on a server that is down. */
const FETCH_TIMEOUT_MS = 10_000;

/** Pictures that Gemini reads. */
export const IMAGE_TYPES = new Set([
  "image/png",
  "image/jpeg",
  "image/webp",
  "image/heic",
  "image/heif",
  "image/gif",
]);

/** Those, and files that it reads. */
export const FILE_TYPES = new Set([
  ...IMAGE_TYPES,
  "application/pdf",
  "text/plain",
  "text/csv",
  "text/markdown",
  "text/html",
]);

/** How links to pictures are followed. */
export interface Links {
  fetch: typeof fetch;
  clock: Clock;
  resolve?: ((host: string) => Promise<string[]>) | undefined;
  connect?: Connect | undefined;
}

/** Finds the content of a link of the request. */
export type LinkedMedia = (url: string) => InlineData | undefined;

export const isLink = (url: string) => /^https?:/i.test(url);

/**
 * What is behind links of a request, fetched at the same time; each link once, and none before it is confirmed that the caller may still
 * call.
 * @param places each link, and the field that it stands in
 * @param types media types that are taken
 * @throws GatewayError `invalid_request`, naming the link; `client_closed`, what `confirmCaller` throws
 */
export async function fetchLinked(
  places: ReadonlyMap<string, string>,
  links: Links,
  { confirmCaller, request: { signal } }: Pick<RequestContext, "confirmCaller" | "request">,
  types: ReadonlySet<string> = IMAGE_TYPES,
): Promise<LinkedMedia> {
  if (places.size > MAX_LINKED_IMAGES) {
    throw invalidRequest([{
      field: "messages",
      problem: `link to more than ${MAX_LINKED_IMAGES} images or files`,
    }]);
  }
  if (places.size > 0) await confirmCaller();
  let left = MAX_LINKED_BYTES;
  const mayTake = (bytes: number) => (left -= bytes) >= 0;
  const fetched = await Promise.all([...places].map(async ([url, field]) => {
    try {
      const { mimeType, bytes } = await fetchPublic(url, {
        ...links,
        signal,
        mayTake,
        timeoutMs: FETCH_TIMEOUT_MS,
        accepts: (type) => types.has(type),
      });
      return [url, { mimeType, data: toBase64(bytes) }] as const;
    } catch (thrown) {
      if (thrown instanceof PublicFetchError) {
        throw invalidRequest([{ field, problem: `the link ${thrown.message}` }]);
      }
      throw signal.aborted ? new GatewayError("client_closed") : thrown;
    }
  }));
  const found = new Map<string, InlineData>(fetched);
  return (url) => found.get(url);
}
