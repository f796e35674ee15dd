import type { InlineData } from "../../contract/content.ts";
import type { RequestContext } from "../endpoint.ts";
import { fetchLinked, isLink, type LinkedMedia, type Links } from "../linked_media.ts";
import type { Message, UserPart } from "./chat_request.ts";
import { invalidRequest } from "../validated.ts";

/** The content of all picture links of the messages. @throws GatewayError as fetchLinked */
export async function fetchLinks(
  messages: Message[],
  links: Links,
  context: Pick<RequestContext, "confirmCaller" | "request">,
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
  return await fetchLinked(places, links, context);
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
