import type { Content, Part, Prompt } from "../../contract/content.ts";
import { fromBase64 } from "../../runtime/base64.ts";
import { callersFault, upstreamsFault } from "../diagnoses.ts";
import { ProviderFailure } from "../provider.ts";
import { recordsIn } from "../upstream.ts";

/*
 * https://developers.sber.ru/docs/ru/gigachat/api/working-with-files: pictures go into a storage of the project's, and a message names
 * them. One picture a message, ten a request, 15 MB each and 20 MB together; jpeg, png, tiff and bmp.
 */
export const GIGACHAT_IMAGE_TYPES: ReadonlySet<string> = new Set([
  "image/jpeg",
  "image/png",
  "image/tiff",
  "image/bmp",
]);
/** The documentation says Mb; the smaller reading is safe. */
export const MAX_GIGACHAT_IMAGE_BYTES = 15_000_000;
export const MAX_GIGACHAT_REQUEST_BYTES = 20_000_000;
export const MAX_GIGACHAT_IMAGES = 10;

const EXTENSIONS: Readonly<Record<string, string>> = {
  "image/jpeg": "jpg",
  "image/png": "png",
  "image/tiff": "tiff",
  "image/bmp": "bmp",
};

/** A longer upload hangs: 15 MB take 24 s at 5 Mbit/s. */
export const UPLOAD_TIMEOUT_MS = 60_000;
/** To delete all files of a call, listing them included; the caller waits for it. */
export const DELETE_TIMEOUT_MS = 10_000;

/** Which file stands for which part of a prompt. */
export type Attachments = ReadonlyMap<Part, string>;

/** A picture that is to be uploaded, under a name that no other one has. */
export interface Upload {
  part: Part;
  name: string;
  form: () => FormData;
}

/** What carries requests to the storage, with a token. */
export interface FileRequests {
  /** @throws ProviderFailure, and the signal's reason when it aborts */
  send(path: string, body: FormData | undefined, signal: AbortSignal): Promise<Record<string, unknown>>;
}

/** Told of pictures that may still be there: what they are called, and why. */
export type OnLeftBehind = (names: string[], reason: string) => void;

/**
 * The pictures of a prompt, looked at before anything is sent.
 * @throws ProviderFailure `unsupported_feature` for what GigaChat does not take
 */
export function uploadsOf(prompt: Prompt, newId: () => string): Upload[] {
  const uploads = prompt.contents.flatMap(imagesIn).map((part) => uploadOf(part, newId));
  const bytes = uploads.reduce((sum, { size }) => sum + size, 0);
  if (uploads.length > MAX_GIGACHAT_IMAGES) {
    throw unsupported(`${uploads.length} pictures; it takes ${MAX_GIGACHAT_IMAGES} in a request`);
  }
  if (bytes >= MAX_GIGACHAT_REQUEST_BYTES) {
    throw unsupported(
      `${bytes} bytes of pictures; it takes less than ${MAX_GIGACHAT_REQUEST_BYTES} in a request`,
    );
  }
  return uploads;
}

function imagesIn({ parts = [] }: Content): Part[] {
  return parts.filter((part) => part.inlineData?.mimeType?.startsWith("image/") === true);
}

function uploadOf(part: Part, newId: () => string): Upload & { size: number } {
  const { mimeType = "", data = "" } = part.inlineData ?? {};
  if (!GIGACHAT_IMAGE_TYPES.has(mimeType)) {
    throw unsupported(`${mimeType.slice(0, 50)}; it takes jpeg, png, tiff and bmp`);
  }
  const size = Math.floor(data.length * 3 / 4) - (/={1,2}$/.exec(data)?.[0].length ?? 0);
  if (size > MAX_GIGACHAT_IMAGE_BYTES) {
    throw unsupported(`a picture of ${size} bytes; it takes ${MAX_GIGACHAT_IMAGE_BYTES}`);
  }
  const name = `eve-${newId()}.${EXTENSIONS[mimeType]}`;
  const form = () => {
    const form = new FormData();
    form.append("file", new File([bytesOf(data)], name, { type: mimeType }));
    form.append("purpose", "general");
    return form;
  };
  return { part, name, form, size };
}

function bytesOf(data: string): Uint8Array<ArrayBuffer> {
  try {
    return fromBase64(data);
  } catch {
    throw new ProviderFailure(callersFault(), "a picture's data is not Base64", null);
  }
}

function unsupported(what: string): ProviderFailure {
  return new ProviderFailure(callersFault("unsupported_feature"), `this provider was sent ${what}`, null);
}

/**
 * The files of one call: uploaded before it, deleted after it, however it ended, so that they are not left with others. What could not
 * be deleted is told to `onLeftBehind`, and changes nothing for the caller.
 */
export function openFiles(
  { send }: FileRequests,
  onLeftBehind: OnLeftBehind,
): {
  upload(uploads: readonly Upload[], signal: AbortSignal): Promise<Attachments>;
  /** Never throws. */
  deleteAll(): Promise<void>;
} {
  const attachments = new Map<Part, string>();
  const ids = new Map<string, string>();
  /** Uploads whose answer did not come: the file may be there. */
  const unsure = new Set<string>();
  return {
    async upload(uploads, signal) {
      // One after the other: most projects may have one call under way at a time.
      for (const { part, name, form } of uploads) {
        unsure.add(name);
        const timeout = AbortSignal.timeout(UPLOAD_TIMEOUT_MS);
        let answer: Record<string, unknown>;
        try {
          answer = await send("/files", form(), AbortSignal.any([signal, timeout]));
        } catch (thrown) {
          // A refusal says that nothing was stored.
          if (thrown instanceof ProviderFailure && refused(thrown)) unsure.delete(name);
          signal.throwIfAborted();
          throw thrown instanceof ProviderFailure ? thrown : new ProviderFailure(
            upstreamsFault(504),
            `the upload took more than ${UPLOAD_TIMEOUT_MS} ms`,
            null,
          );
        }
        const { id } = answer;
        if (typeof id !== "string" || !FILE_ID.test(id)) {
          throw new ProviderFailure(upstreamsFault(null), "the answer to an upload names no file", null);
        }
        unsure.delete(name);
        ids.set(name, id);
        attachments.set(part, id);
      }
      return attachments;
    },
    async deleteAll() {
      if (ids.size === 0 && unsure.size === 0) return;
      // The caller may have gone, and its signal with it.
      const signal = AbortSignal.timeout(DELETE_TIMEOUT_MS);
      try {
        if (unsure.size > 0) {
          const { data } = await send("/files", undefined, signal);
          for (const { id, filename } of recordsIn(data)) {
            if (typeof filename === "string" && unsure.has(filename) && typeof id === "string") {
              ids.set(filename, id);
            }
          }
          // Those that are not listed were not stored.
          unsure.clear();
        }
      } catch (thrown) {
        onLeftBehind([...unsure], messageOf(thrown));
      }
      for (const [name, id] of ids) {
        try {
          await send(`/files/${encodeURIComponent(id)}/delete`, new FormData(), signal);
        } catch (thrown) {
          if (thrown instanceof ProviderFailure && thrown.upstreamStatus === 404) continue;
          onLeftBehind([name], messageOf(thrown));
        }
      }
    },
  };
}

/** A UUID, in practice; nothing that would make another path. */
const FILE_ID = /^[\w-]{1,100}$/;

function refused({ upstreamStatus }: ProviderFailure): boolean {
  return upstreamStatus !== null && upstreamStatus >= 400 && upstreamStatus < 500;
}

function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
