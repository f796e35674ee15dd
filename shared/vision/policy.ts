import * as z from "zod";
import { type AnalystCapabilities, type Resolution, RESOLUTIONS, unsuitable } from "./analyst.ts";

/**
 * What a tenant wants looked at, and by whom. A policy is data (eve.vision_policies), a decision a pure function of it and of the picture:
 * the same picture always gets the same answer, and every answer says why.
 */

/** A source with `*` at its end stands for all that begin so. */
const pattern = z.string().min(1).max(200);
const name = z.string().min(1).max(100);
const names = z.array(name).max(20);
const MAX_DAYS = 36_500;

export const visionPolicy = z.strictObject({
  /** False: nothing is looked at. */
  enabled: z.boolean().default(true),
  /** MIME types that are not looked at. */
  skip_types: z.array(z.string().min(1).max(100)).max(50).default(["image/svg+xml"]),
  /** Smaller ones are icons, as a rule. Bytes. */
  min_bytes: z.int().min(0).default(2_048),
  max_bytes: z.int().min(1).default(20_000_000),
  /** Pixels of the shorter side. */
  min_side: z.int().min(1).default(64),
  /** Width times height: what decoding would take room for. A picture with more is refused by its header. */
  max_pixels: z.int().min(1).default(100_000_000),
  /** Posts that are older are not looked at; null: of any age. */
  max_age_days: z.int().min(1).max(MAX_DAYS).nullable().default(null),
  /** Sources that are not looked at; `telegram:*` stands for all that begin so. */
  skip_sources: z.array(pattern).max(200).default([]),
  /** If any are named, these alone. */
  only_sources: z.array(pattern).max(200).default([]),
  /** Of a thousand pictures so many, by their hashes: the same picture is always in or always out. */
  sample_permille: z.int().min(0).max(1000).default(1000),
  /** Bits of 64 in which pictures that look the same may differ; null: each is looked at. */
  same_bits: z.int().min(0).max(3).nullable().default(2),
  /** Those that look like text (a scan, a long screenshot) go to these first. */
  text_first: names.default([]),
  /** All others, in this order; empty: as the installation has them. Fallbacks stand behind. */
  analysts: names.default([]),
  /** Whether one that reads text alone may stand in when the others have no room, no budget, or are away. */
  ocr_fallback: z.boolean().default(true),
  /** How closely pictures are looked at, by what they look like. */
  resolution: z.strictObject({
    usual: z.enum(RESOLUTIONS).default("medium"),
    text: z.enum(RESOLUTIONS).default("high"),
    large_document: z.enum(RESOLUTIONS).default("ultra_high"),
    small: z.enum(RESOLUTIONS).default("low"),
  }).prefault({}),
});
export type VisionPolicy = z.output<typeof visionPolicy>;
export const USUAL_POLICY: VisionPolicy = visionPolicy.parse({});

/** What is known of a picture before anybody looks at it. */
export interface PictureFacts {
  sha256: string;
  mimeType: string;
  sizeBytes: number;
  /** Null: its header does not tell. */
  width: number | null;
  height: number | null;
  source: string;
  /** When the post was published, or came; ms since 1970. */
  publishedAtMs: number;
  /** One that looks the same and has a result, and in how many bits they differ. */
  similar: { sha256: string; distance: number } | null;
  /** Where there is none: one that looks the same, and somebody looks at it now. */
  underWay: { sha256: string; distance: number } | null;
}

export interface AvailableAnalyst {
  name: string;
  capabilities: AnalystCapabilities;
}

/** What a picture looks like, as far as its size tells. */
export type PictureKind = "text" | "large_document" | "small" | "usual";

export type SkipReason =
  | "switched_off"
  | "type"
  | "not_a_picture"
  | "too_many_pixels"
  | "too_small"
  | "too_large"
  | "too_narrow"
  | "too_old"
  | "source"
  | "not_in_sample"
  | "no_analyst_takes_it";

export interface PassedOver {
  name: string;
  why: string;
}

export type VisionDecision =
  & { message: string }
  & (
    | { action: "skip"; reason: SkipReason; passedOver?: PassedOver[] }
    | { action: "copy"; reason: "looks_the_same"; sha256: string; distance: number }
    /** In the order in which they are asked. */
    | {
      action: "analyse";
      reason: PictureKind;
      analysts: { name: string; resolution: Resolution }[];
      passedOver: PassedOver[];
    }
    | { action: "wait"; reason: "no_analyst"; passedOver: PassedOver[] }
    | { action: "wait"; reason: "looks_the_same"; sha256: string; distance: number }
  );

const DAY_MS = 86_400_000;

/** @param available in the order of the installation; @param nowMs ms since 1970 */
export function decide(
  policy: VisionPolicy,
  picture: PictureFacts,
  available: readonly AvailableAnalyst[],
  nowMs: number,
): VisionDecision {
  const { mimeType, sizeBytes, width, height, source } = picture;
  if (!policy.enabled) return skip("switched_off", "The policy looks at nothing.");
  if (policy.skip_types.includes(mimeType)) return skip("type", `The policy skips ${mimeType}.`);
  if (policy.skip_sources.some((one) => matches(source, one))) {
    return skip("source", `The policy skips ${source}.`);
  }
  if (policy.only_sources.length > 0 && !policy.only_sources.some((one) => matches(source, one))) {
    return skip("source", `${source} is not among the sources of the policy.`);
  }
  if (policy.max_age_days !== null && nowMs - picture.publishedAtMs > policy.max_age_days * DAY_MS) {
    return skip("too_old", `The post is older than ${policy.max_age_days} days.`);
  }
  if (sizeBytes < policy.min_bytes) {
    return skip("too_small", `${sizeBytes} bytes are less than ${policy.min_bytes}.`);
  }
  if (sizeBytes > policy.max_bytes) {
    return skip("too_large", `${sizeBytes} bytes are more than ${policy.max_bytes}.`);
  }
  if (width === null || height === null) {
    return skip("not_a_picture", "Its first bytes are those of no picture whose size can be read.");
  }
  if (width * height > policy.max_pixels) {
    return skip("too_many_pixels", `${width} x ${height} pixels are more than ${policy.max_pixels}.`);
  }
  if (Math.min(width, height) < policy.min_side) {
    return skip("too_narrow", `${width} x ${height} pixels: a side is shorter than ${policy.min_side}.`);
  }
  const place = samplePlace(picture.sha256);
  if (place >= policy.sample_permille) {
    return skip(
      "not_in_sample",
      `Its place in the sample is ${place}, and the first ${policy.sample_permille} are looked at.`,
    );
  }
  // Pages and screenshots of the same form look the same from afar, and say different things.
  const kind = pictureKind({ mimeType, width, height });
  const same = kind === "text" || kind === "large_document" ? null : picture.similar ?? picture.underWay;
  if (same !== null && policy.same_bits !== null && same.distance <= policy.same_bits) {
    const { sha256, distance } = same;
    const alike = `It looks like ${sha256.slice(0, 12)}: ${distance} of 64 bits differ`;
    const facts = { reason: "looks_the_same", sha256, distance } as const;
    return picture.similar === null
      ? { action: "wait", ...facts, message: `${alike}, and that is being looked at now.` }
      : { action: "copy", ...facts, message: `${alike}.` };
  }
  return routed(policy, { mimeType, sizeBytes, width, height }, available);
}

function skip(reason: SkipReason, message: string): VisionDecision {
  return { action: "skip", reason, message };
}

function matches(source: string, pattern: string): boolean {
  return pattern.endsWith("*") ? source.startsWith(pattern.slice(0, -1)) : source === pattern;
}

/** 0 to 999, from the hash alone: evenly spread, and the same for ever. */
export function samplePlace(sha256: string): number {
  return Number.parseInt(sha256.slice(0, 8), 16) % 1000;
}

/** Below it a model sees all there is in the fewest tokens. */
const SMALL_SIDE = 384;
/** A sheet at 150 dpi has 1,240 x 1,754 pixels: what has as many and is neither wide nor square may be one. */
const DOCUMENT_PIXELS = 2_000_000;
const LARGE_DOCUMENT_PIXELS = 6_000_000;
/** A screenshot of a telephone has 2.2; a strip of messages more. */
const TALL = 2;
/** Paper: 1.29 (letter) to 1.42 (A4), with a margin. */
const PAPER = { from: 1.27, to: 1.45 };

/** Scans are PNG or TIFF in the shape of paper, screenshots tall PNGs; photographs are neither. */
export function pictureKind(
  { mimeType, width, height }: { mimeType: string; width: number; height: number },
): PictureKind {
  if (Math.max(width, height) <= SMALL_SIDE) return "small";
  const ratio = height / width;
  const pixels = width * height;
  const lossless = mimeType === "image/png" || mimeType === "image/tiff" || mimeType === "image/bmp";
  const paper = ratio >= PAPER.from && ratio <= PAPER.to || 1 / ratio >= PAPER.from && 1 / ratio <= PAPER.to;
  if (paper && lossless && pixels >= DOCUMENT_PIXELS) {
    return pixels >= LARGE_DOCUMENT_PIXELS ? "large_document" : "text";
  }
  return ratio >= TALL && (lossless || pixels >= DOCUMENT_PIXELS) ? "text" : "usual";
}

function routed(
  policy: VisionPolicy,
  picture: { mimeType: string; sizeBytes: number; width: number; height: number },
  available: readonly AvailableAnalyst[],
): VisionDecision {
  const kind = pictureKind(picture);
  const resolution = policy.resolution[kind];
  const isText = kind === "text" || kind === "large_document";
  const passedOver: PassedOver[] = [];
  const byName = new Map(available.map((one) => [one.name, one]));
  const seeing = available.filter(({ capabilities }) => !capabilities.readsTextOnly).map(({ name }) => name);
  const wanted = policy.analysts.length > 0 ? policy.analysts : seeing;
  const reading = policy.ocr_fallback
    ? available.filter(({ capabilities }) => capabilities.readsTextOnly).map(({ name }) => name)
    : [];
  const order = new Set([...(isText ? policy.text_first : []), ...wanted, ...reading]);
  const analysts: { name: string; resolution: Resolution }[] = [];
  for (const name of order) {
    const analyst = byName.get(name);
    const why = analyst === undefined ? "it is not set up" : unsuitable(analyst.capabilities, picture);
    if (why === null) analysts.push({ name, resolution });
    else passedOver.push({ name, why });
  }
  if (analysts.length > 0) {
    return {
      action: "analyse",
      reason: kind,
      analysts,
      passedOver,
      message: `It looks ${KIND_WORDS[kind]}: ${
        analysts.map(({ name }) => name).join(", then ")
      }, at resolution ${resolution}.`,
    };
  }
  // Those that are there will never take it; where one is missing it may come.
  const missing = available.length === 0 || passedOver.some(({ name }) => !byName.has(name));
  return missing
    ? {
      action: "wait",
      reason: "no_analyst",
      passedOver,
      message: "Nobody who could look at it is set up: it waits.",
    }
    : {
      action: "skip",
      reason: "no_analyst_takes_it",
      passedOver,
      message: `Nobody takes it: ${passedOver.map(({ name, why }) => `${name}: ${why}`).join("; ")}.`.slice(
        0,
        500,
      ),
    };
}

const KIND_WORDS: Readonly<Record<PictureKind, string>> = {
  text: "like text",
  large_document: "like a large document",
  small: "small",
  usual: "like a photograph",
};
