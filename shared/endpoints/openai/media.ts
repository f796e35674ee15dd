import type { InlineData } from "../../contract/content.ts";
import type { RequestContext } from "../endpoint.ts";
import { fetchLinked, FILE_TYPES, isLink, type LinkedMedia, type Links } from "../linked_media.ts";
import type { Message, UserPart } from "./chat_request.ts";
import { invalidRequest } from "../validated.ts";

/** Of files that come as bare base64, by the ends of their names. */
const TYPES_BY_NAME: Readonly<Record<string, string>> = {
  csv: "text/csv",
  html: "text/html",
  md: "text/markdown",
  txt: "text/plain",
};

/** The content of all links to pictures and files of the messages. @throws GatewayError as fetchLinked */
export async function fetchLinks(
  messages: Message[],
  links: Links,
  context: Pick<RequestContext, "confirmCaller" | "request">,
): Promise<LinkedMedia> {
  const places = new Map<string, string>();
  let files = false;
  messages.forEach((message, i) => {
    if (message.role !== "user" && message.role !== "tool") return;
    message.content?.forEach((part, j) => {
      const [url, field] = part.type === "image_url"
        ? [part.image_url.url, "image_url.url"]
        : part.type === "file"
        ? [part.file.file_data, "file.file_data"]
        : ["", ""];
      if (!isLink(url)) return;
      files ||= part.type === "file";
      if (!places.has(url)) places.set(url, `messages[${i}].content[${j}].${field}`);
    });
  });
  return await fetchLinked(places, links, context, ...(files ? [FILE_TYPES] : []));
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
      const data = isLink(url) ? linked(url) ?? invalidField(field, "was not fetched") : dataOf(url, field);
      if (!data.mimeType?.startsWith("image/")) invalidField(field, `is no image but ${data.mimeType}`);
      return data;
    }
    case "input_audio":
      return { mimeType: `audio/${part.input_audio.format}`, data: part.input_audio.data };
    case "file": {
      const { file_data: data, filename } = part.file;
      const field = `${place}.file.file_data`;
      if (isLink(data)) return linked(data) ?? invalidField(field, "was not fetched");
      if (data.startsWith("data:")) return dataOf(data, field);
      const end = /\.(\w+)$/.exec(filename ?? "")?.[1]?.toLowerCase() ?? "";
      return dataOf(`data:${TYPES_BY_NAME[end] ?? "application/pdf"};base64,${data}`, field);
    }
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
