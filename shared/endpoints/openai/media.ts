import type { InlineData } from "../../contract/content.ts";
import type { RequestContext } from "../endpoint.ts";
import { fetchLinked, FILE_TYPES, isLink, type LinkedMedia, type Links } from "../linked_media.ts";
import type { Message, UserPart } from "./chat/chat_request.ts";
import { contentOfFiles, type KeptFiles } from "../named_files.ts";
import { invalidRequest } from "../validated.ts";
import { uuidIn } from "./objects.ts";

/** Of files that come as bare base64, by the ends of their names. */
const TYPES_BY_NAME: Readonly<Record<string, string>> = {
  csv: "text/csv",
  gif: "image/gif",
  html: "text/html",
  jpeg: "image/jpeg",
  jpg: "image/jpeg",
  json: "application/json",
  md: "text/markdown",
  mp3: "audio/mpeg",
  pdf: "application/pdf",
  png: "image/png",
  txt: "text/plain",
  wav: "audio/wav",
  webp: "image/webp",
};

const typeByName = (name: string) => TYPES_BY_NAME[/\.(\w+)$/.exec(name)?.[1]?.toLowerCase() ?? ""];

/** What a file is that is uploaded: declared, or by the end of its name. */
export function typeOfFile({ type, name }: Pick<File, "type" | "name">): string {
  const declared = type.split(";")[0]!.trim().toLowerCase();
  const isUnknown = declared === "" || declared === "application/octet-stream";
  return isUnknown ? typeByName(name) ?? "application/octet-stream" : declared;
}

/** A file's id, which may stand where a link may. */
const FILE_ID = /^file-[0-9a-zA-Z]+$/;
const isNamed = (url: string) => isLink(url) || FILE_ID.test(url);

/**
 * The content of all pictures and files that the messages link to or name by their ids.
 * @param kept absent: no files are kept
 * @throws GatewayError as fetchLinked, contentOfFiles
 */
export async function fetchLinks(
  messages: Message[],
  { batches: kept, ...links }: Links & { batches?: KeptFiles | undefined },
  context: Pick<RequestContext, "confirmCaller" | "request" | "caller" | "takeMemory">,
): Promise<LinkedMedia> {
  const places = new Map<string, string>();
  const ids = new Map<string, string>();
  let files = false;
  messages.forEach((message, i) => {
    if (message.role !== "user" && message.role !== "tool") return;
    message.content?.forEach((part, j) => {
      const [url, field] = part.type === "image_url"
        ? [part.image_url.url, "image_url.url"]
        : part.type === "file"
        ? [part.file.file_data, FILE_ID.test(part.file.file_data) ? "file.file_id" : "file.file_data"]
        : ["", ""];
      const place = `messages[${i}].content[${j}].${field}`;
      if (FILE_ID.test(url) && kept !== undefined) ids.set(uuidIn("file", url), place);
      if (!isLink(url)) return;
      files ||= part.type === "file";
      if (!places.has(url)) places.set(url, place);
    });
  });
  const stored = ids.size > 0 && kept !== undefined ? await contentOfFiles(ids, context, kept) : null;
  const linked = await fetchLinked(places, links, context, ...(files ? [FILE_TYPES] : []));
  return (url) => stored !== null && FILE_ID.test(url) ? stored.get(uuidIn("file", url)) : linked(url);
}

const NOT_FOUND = "leads to nothing that a prompt may have here";

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
      const data = isNamed(url) ? linked(url) ?? invalidField(field, NOT_FOUND) : dataOf(url, field);
      if (!data.mimeType?.startsWith("image/")) invalidField(field, `is no image but ${data.mimeType}`);
      return data;
    }
    case "input_audio":
      return { mimeType: `audio/${part.input_audio.format}`, data: part.input_audio.data };
    case "file": {
      const { file_data: data, filename } = part.file;
      const field = `${place}.file.file_data`;
      if (isNamed(data)) return linked(data) ?? invalidField(field, NOT_FOUND);
      if (data.startsWith("data:")) return dataOf(data, field);
      return dataOf(`data:${typeByName(filename ?? "") ?? "application/pdf"};base64,${data}`, field);
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
