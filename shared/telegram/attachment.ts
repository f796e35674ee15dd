import * as z from "zod";
import { MAX_FILE_BYTES } from "./bot_api.ts";

const size = z.number().nonnegative().optional().catch(undefined);
const fileName = z.string().optional().catch(undefined);
const photoSize = z.looseObject({
  file_id: z.string(),
  file_unique_id: z.string(),
  width: size,
  height: size,
  file_size: size,
});
const withThumbnail = z.looseObject({
  file_name: fileName,
  mime_type: z.string().optional().catch(undefined),
  file_size: size,
  thumbnail: photoSize.optional().catch(undefined),
  /** What it was called before Bot API 6.6. */
  thumb: photoSize.optional().catch(undefined),
});
const document = z.looseObject({
  file_id: z.string(),
  file_unique_id: z.string(),
  file_name: fileName,
  mime_type: z.string().optional().catch(undefined),
  file_size: size,
});

/** What comes with a message beside its words, as its post says it. */
export interface Attachment {
  /** `photo`, `document`, `video`, `animation`, `video_note`, or what else Telegram calls it. */
  kind: string;
  /** `waiting`: it is to be fetched. */
  status: "stored" | "waiting" | "too_large" | "not_wanted" | "refused";
  /** Why it is not there. */
  reason?: string;
  name?: string;
  mime_type?: string;
  size_bytes?: number;
  sha256?: string;
  file_unique_id?: string;
}

export interface FileToFetch {
  fileId: string;
  /** What the sender calls it; a photo is a JPEG, but may come as another picture. */
  mimeType: string | null;
  /** Which types are stored. */
  accepts: (mimeType: string) => boolean;
}

export interface Found {
  attachment: Attachment;
  /** Null: nothing is fetched. */
  file: FileToFetch | null;
}

/** Messages have at most one of these. A video that is an animation has `document` as well, so that comes last. */
const WITH_THUMBNAIL = ["animation", "video", "video_note"] as const;
/** Nothing of these is fetched; the post says that they were there. */
const OTHERS = [
  "audio",
  "voice",
  "sticker",
  "story",
  "paid_media",
  "poll",
  "dice",
  "game",
  "location",
  "venue",
  "contact",
] as const;
const MAX_NAME_CHARS = 100;
const isPicture = (mimeType: string) => mimeType.startsWith("image/");

/**
 * What is to be fetched of a message: the largest size of a photo that a bot can have, a document, a video's thumbnail. Null: it has nothing but words.
 * @param wanted as eve.telegram_bots has it: photo, thumbnail, and types of documents such as image/*
 */
export function attachmentOf(
  message: Readonly<Record<string, unknown>>,
  wanted: readonly string[],
): Found | null {
  const photos = z.array(photoSize).max(50).safeParse(message.photo);
  if (photos.success && photos.data.length > 0) return photoOf(photos.data, wanted);
  for (const kind of WITH_THUMBNAIL) {
    const found = withThumbnail.safeParse(message[kind]);
    if (found.success) return thumbnailOf(kind, found.data, wanted);
  }
  const file = document.safeParse(message.document);
  if (file.success) return documentOf(file.data, wanted);
  const other = OTHERS.find((kind) => typeof message[kind] === "object" && message[kind] !== null);
  return other === undefined ? null : notWanted({ kind: other });
}

function photoOf(sizes: z.output<typeof photoSize>[], wanted: readonly string[]): Found {
  const area = ({ width = 0, height = 0 }: (typeof sizes)[number]) => width * height;
  const largestFirst = sizes.toSorted((one, other) =>
    area(other) - area(one) || (other.file_size ?? 0) - (one.file_size ?? 0)
  );
  const described = { kind: "photo", mime_type: "image/jpeg" };
  if (!wanted.includes("photo")) return notWanted(described);
  const best = largestFirst.find(({ file_size = 0 }) => file_size <= MAX_FILE_BYTES);
  if (best === undefined) return tooLarge({ ...described, ...bytes(largestFirst[0]?.file_size) });
  return {
    attachment: {
      ...described,
      status: "waiting",
      ...bytes(best.file_size),
      file_unique_id: best.file_unique_id,
    },
    file: { fileId: best.file_id, mimeType: null, accepts: isPicture },
  };
}

function thumbnailOf(
  kind: string,
  { file_name, mime_type, file_size, thumbnail, thumb }: z.output<typeof withThumbnail>,
  wanted: readonly string[],
): Found {
  const described = { kind, ...named(file_name), ...typed(mime_type), ...bytes(file_size) };
  const picture = thumbnail ?? thumb;
  if (!wanted.includes("thumbnail")) return notWanted(described);
  if (picture === undefined) return notWanted(described, "It has no thumbnail.");
  return {
    attachment: {
      ...described,
      status: "waiting",
      reason: "Of a video its thumbnail alone is kept.",
      file_unique_id: picture.file_unique_id,
    },
    file: { fileId: picture.file_id, mimeType: null, accepts: isPicture },
  };
}

function documentOf(
  { file_id, file_unique_id, file_name, mime_type, file_size }: z.output<typeof document>,
  wanted: readonly string[],
): Found {
  const described = { kind: "document", ...named(file_name), ...typed(mime_type), ...bytes(file_size) };
  const accepts = (mimeType: string) =>
    wanted.some((one) => one === mimeType || one.endsWith("/*") && mimeType.startsWith(one.slice(0, -1)));
  const mimeType = mime_type?.toLowerCase() ?? null;
  if (mimeType === null || !accepts(mimeType)) return notWanted(described);
  if (file_size !== undefined && file_size > MAX_FILE_BYTES) return tooLarge(described);
  return {
    attachment: { ...described, status: "waiting", file_unique_id },
    file: { fileId: file_id, mimeType, accepts },
  };
}

const named = (name: string | undefined) =>
  name === undefined ? {} : { name: name.slice(0, MAX_NAME_CHARS).toWellFormed() };
const typed = (mimeType: string | undefined) =>
  mimeType === undefined ? {} : { mime_type: mimeType.slice(0, MAX_NAME_CHARS).toWellFormed() };
const bytes = (sizeBytes: number | undefined) => sizeBytes === undefined ? {} : { size_bytes: sizeBytes };

function notWanted(
  described: Omit<Attachment, "status">,
  reason = "The gateway is not set up to keep files of this kind.",
): Found {
  return { attachment: { ...described, status: "not_wanted", reason }, file: null };
}

function tooLarge(described: Omit<Attachment, "status">): Found {
  const reason = `Telegram gives a bot files of ${MAX_FILE_BYTES / 1_000_000} MB at most.`;
  return { attachment: { ...described, status: "too_large", reason }, file: null };
}
