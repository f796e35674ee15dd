import type { Content, Part, Prompt } from "../../contract/content.ts";
import { isObject } from "../../contract/is_object.ts";
import type { BatchFile } from "../../database/batches.ts";
import { toBase64 } from "../../runtime/base64.ts";
import type { RequestContext } from "../endpoint.ts";
import { invalidRequest } from "../validated.ts";
import type { GeminiFiles } from "./files.ts";
import { uuidOf } from "./resources.ts";

/** Of all files that a prompt names, together: as large as one upload. */
const MAX_BYTES = 8 * 1024 * 1024;
/** A file of ours, by its address or its name alone. Google's own ids are shorter: theirs go upstream as they are. */
const OURS = /(?:^|\/)files\/([0-9a-f]{32})$/;

/**
 * A prompt with the content of the files that it names: those are known to the gateway alone, so they go upstream inline.
 * @throws GatewayError `not_found`, `invalid_request`, `gateway_busy`, `storage_unavailable`
 */
export async function withFiles(
  prompt: Prompt,
  { caller, takeMemory }: Pick<RequestContext, "caller" | "takeMemory">,
  parts: Pick<GeminiFiles, "batches" | "files"> | undefined,
): Promise<Prompt> {
  const contents = [...prompt.contents, ...(prompt.systemInstruction ? [prompt.systemInstruction] : [])];
  const ids = new Set(contents.flatMap(({ parts }) => (parts ?? []).flatMap((part) => idIn(part) ?? [])));
  if (ids.size === 0 || parts === undefined) return prompt;
  const found = new Map<string, BatchFile>();
  for (const id of ids) found.set(id, await parts.batches.file(uuidOf("files", id), caller));
  const bytes = [...found.values()].reduce((sum, file) => sum + file.bytes, 0);
  if (bytes > MAX_BYTES) {
    throw invalidRequest([{
      field: "contents",
      problem: `names files of ${bytes} bytes, and may name ${MAX_BYTES}: they are sent with the prompt`,
    }]);
  }
  takeMemory(bytes);
  const data = new Map<string, string>();
  for (const [id, { tenant_id, sha256, parts: hashes }] of found) {
    if (tenant_id === null) {
      throw invalidRequest([{
        field: "fileData.fileUri",
        problem: "names what came of a batch: download it",
      }]);
    }
    const content = new Uint8Array(
      await new Response(await parts.files.open({ tenant_id, sha256, parts: hashes })).arrayBuffer(),
    );
    data.set(id, toBase64(content));
  }
  const inlined = (part: Part): Part => {
    const id = idIn(part);
    if (id === null) return part;
    const { fileData, ...others } = part;
    const declared = isObject(fileData) && typeof fileData.mimeType === "string" ? fileData.mimeType : null;
    return { ...others, inlineData: { mimeType: declared ?? found.get(id)!.mime_type, data: data.get(id)! } };
  };
  const filled = (content: Content): Content =>
    content.parts === undefined ? content : { ...content, parts: content.parts.map(inlined) };
  return {
    ...prompt,
    contents: prompt.contents.map(filled),
    ...(prompt.systemInstruction && { systemInstruction: filled(prompt.systemInstruction) }),
  };
}

function idIn({ fileData }: Part): string | null {
  if (!isObject(fileData) || typeof fileData.fileUri !== "string") return null;
  return OURS.exec(fileData.fileUri)?.[1] ?? null;
}
