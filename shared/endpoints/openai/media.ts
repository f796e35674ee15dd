import type { Clock } from "../../runtime/clock.ts";
import type { InlineData } from "../../contract/content.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { Connect } from "../../http/pinned_request.ts";
import { fetchPublic } from "../../http/public_fetch.ts";
import { PublicFetchError } from "../../http/public_target.ts";
import type { RequestContext } from "../endpoint.ts";
import type { Message, UserPart } from "./chat_request.ts";
import { invalidRequest } from "../validated.ts";
import { toBase64 } from "../../runtime/base64.ts";

/** Pictures behind links of one request. */
const MAX_LINKED_IMAGES = 16;
/** For all of them together: what Google takes inline, and what a function's memory bears as bytes and as base64. */
const MAX_LINKED_BYTES = 10 * 1024 * 1024;
/** For all of them: they are fetched before the request is admitted, and a picture that takes longer is on a server that is down. */
const FETCH_TIMEOUT_MS = 10_000;

/** Pictures that Gemini reads. */
const IMAGE_TYPES = new Set([
  "image/png",
  "image/jpeg",
  "image/webp",
  "image/heic",
  "image/heif",
  "image/gif",
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

const isLink = (url: string) => /^https?:/i.test(url);

/**
 * The content of all picture links of the messages, fetched at the same time; each link once, and none before it is
 * confirmed that the caller may still call.
 * @throws GatewayError `invalid_request`, naming the link; `client_closed`, what `confirmCaller` throws
 */
export async function fetchLinks(
  messages: Message[],
  links: Links,
  { confirmCaller, request: { signal } }: Pick<RequestContext, "confirmCaller" | "request">,
): Promise<LinkedMedia> {
  const places = new Map<string, string>();
  messages.forEach((message, i) => {
    if (message.role !== "user") return;
    message.content.forEach((part, j) => {
      if (part.type !== "image_url" || !isLink(part.image_url.url)) return;
      if (!places.has(part.image_url.url)) {
        places.set(part.image_url.url, `messages[${i}].content[${j}].image_url.url`);
      }
    });
  });
  if (places.size > MAX_LINKED_IMAGES) {
    throw invalidRequest([{ field: "messages", problem: `link to more than ${MAX_LINKED_IMAGES} images` }]);
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
        accepts: (type) => IMAGE_TYPES.has(type),
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

/**
 * A part that is not text, as data.
 * @throws GatewayError `invalid_request`
 */
export function inlineData(
  part: Exclude<UserPart, { type: "text" }>,
  linked: LinkedMedia,
  place: string,
): InlineData {
  switch (part.type) {
    case "image_url": {
      const { url } = part.image_url;
      const field = `${place}.image_url.url`;
      if (isLink(url)) return linked(url) ?? invalidField(field, "was not fetched");
      const data = dataOf(url, field);
      if (!data.mimeType.startsWith("image/")) invalidField(field, `is no image but ${data.mimeType}`);
      return data;
    }
    case "input_audio":
      return { mimeType: `audio/${part.input_audio.format}`, data: part.input_audio.data };
    case "file":
      return dataOf(part.file.file_data, `${place}.file.file_data`);
  }
}

/** `data:image/png;base64,iVBOR...` (RFC 2397), in base64 only. */
function dataOf(url: string, field: string): { mimeType: string; data: string } {
  const comma = url.indexOf(",");
  const head = /^data:([\w.+-]+\/[\w.+-]+)(?:;[\w.+-]+=[^;,]*)*;base64$/i.exec(
    url.slice(0, Math.max(0, comma)),
  );
  if (head?.[1] === undefined) invalidField(field, "must be an http(s) link or data:<type>;base64,<data>");
  const data = url.slice(comma + 1);
  if (!/^[A-Za-z0-9+/_-]+={0,2}$/.test(data)) invalidField(field, "does not hold base64");
  return { mimeType: head[1].toLowerCase(), data };
}

function invalidField(field: string, problem: string): never {
  throw invalidRequest([{ field, problem }]);
}
