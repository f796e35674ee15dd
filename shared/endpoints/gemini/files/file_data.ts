import type { Content, Part, Prompt } from "../../../contract/content.ts";
import { isObject } from "../../../contract/is_object.ts";
import type { RequestContext } from "../../endpoint.ts";
import { contentOfFiles, type KeptFiles } from "../../named_files.ts";
import { uuidOf } from "../resources.ts";

/** A file of ours, by its address or its name alone. Google's own ids are shorter: theirs go upstream as they are. */
const OURS = /(?:^|\/)files\/([0-9a-f]{32})$/;

/**
 * A prompt with the content of the files that it names: those are known to the gateway alone, so they go upstream inline.
 * @throws GatewayError `not_found`, `invalid_request`, `gateway_busy`, `storage_unavailable`
 */
export async function withFiles(
  prompt: Prompt,
  context: Pick<RequestContext, "caller" | "takeMemory">,
  parts: KeptFiles | undefined,
): Promise<Prompt> {
  const contents = [...prompt.contents, ...(prompt.systemInstruction ? [prompt.systemInstruction] : [])];
  const ids = new Set(contents.flatMap(({ parts }) => (parts ?? []).flatMap((part) => idIn(part) ?? [])));
  if (ids.size === 0 || parts === undefined) return prompt;
  const named = [...ids].map((id) => [uuidOf("files", id), "fileData.fileUri"] as const);
  const content = await contentOfFiles(new Map(named), context, parts);
  const inlined = (part: Part): Part => {
    const id = idIn(part);
    if (id === null) return part;
    const { fileData, ...others } = part;
    const declared = isObject(fileData) && typeof fileData.mimeType === "string" ? fileData.mimeType : null;
    const { mimeType, data } = content.get(uuidOf("files", id))!;
    return { ...others, inlineData: { mimeType: declared ?? mimeType, data } };
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
