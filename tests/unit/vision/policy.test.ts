import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { AnalystCapabilities } from "../../../shared/vision/analyst.ts";
import {
  type AvailableAnalyst,
  decide,
  type PictureFacts,
  pictureKind,
  samplePlace,
  USUAL_POLICY,
  type VisionPolicy,
  visionPolicy,
} from "../../../shared/vision/policy.ts";

const NOW = Date.UTC(2026, 10, 20);
const DAY = 86_400_000;
const capabilities = (types: string[], more: Partial<AnalystCapabilities> = {}): AnalystCapabilities => ({
  mimeTypes: new Set(types.map((type) => `image/${type}`)),
  maxBytes: 15_000_000,
  maxPixels: null,
  spendsTokens: true,
  readsTextOnly: false,
  ...more,
});
const GEMINI: AvailableAnalyst = { name: "model:g", capabilities: capabilities(["jpeg", "png", "webp"]) };
const GIGACHAT: AvailableAnalyst = {
  name: "model:gigachat",
  capabilities: capabilities(["jpeg", "png", "tiff", "bmp"]),
};
const OCR: AvailableAnalyst = {
  name: "tesseract",
  capabilities: capabilities(["jpeg", "png", "gif"], { spendsTokens: false, readsTextOnly: true }),
};
const ALL = [GIGACHAT, GEMINI, OCR];

const PHOTO: PictureFacts = {
  sha256: "0".repeat(64),
  mimeType: "image/jpeg",
  sizeBytes: 200_000,
  width: 1600,
  height: 1200,
  source: "telegram:city",
  publishedAtMs: NOW - DAY,
  similar: null,
  underWay: null,
};
const similar = (distance: number) => ({ sha256: "b".repeat(64), distance });

describe("what is not looked at, and why", () => {
  test.each<[reason: string, picture: Partial<PictureFacts>, policy: Partial<VisionPolicy>]>([
    ["skip switched_off", {}, { enabled: false }],
    ["skip type", { mimeType: "image/svg+xml" }, {}],
    ["skip source", {}, { skip_sources: ["telegram:*"] }],
    ["analyse usual", {}, { skip_sources: ["telegram:cit"] }],
    ["skip source", {}, { only_sources: ["vk:*", "telegram:other"] }],
    ["analyse usual", {}, { only_sources: ["vk:*", "telegram:city"] }],
    ["skip too_old", { publishedAtMs: NOW - 7 * DAY - 1 }, { max_age_days: 7 }],
    ["analyse usual", { publishedAtMs: NOW - 7 * DAY }, { max_age_days: 7 }],
    ["skip too_small", { sizeBytes: 2_047 }, {}],
    ["skip too_large", { sizeBytes: 20_000_001 }, {}],
    ["skip not_a_picture", { width: null, height: null }, {}],
    ["skip too_many_pixels", { width: 65_535, height: 65_535 }, {}],
    ["skip too_narrow", { width: 2_000, height: 63 }, {}],
    ["skip not_in_sample", {}, { sample_permille: 0 }],
    ["analyse usual", {}, { sample_permille: 1 }],
    ["copy looks_the_same", { similar: similar(2) }, {}],
    ["analyse usual", { similar: similar(3) }, {}],
    ["wait looks_the_same", { underWay: similar(1) }, {}],
    ["copy looks_the_same", { similar: similar(2), underWay: similar(0) }, {}],
    // Two pages look the same from afar.
    ["analyse text", { similar: similar(0), mimeType: "image/png", width: 1240, height: 1754 }, {}],
    ["analyse usual", { similar: similar(0) }, { same_bits: null }],
    // What is skipped does not become looked at by looking like another.
    ["skip not_in_sample", { similar: similar(0) }, { sample_permille: 0 }],
  ])("%s: %j %j", (expected, picture, policy) => {
    const decision = decide({ ...USUAL_POLICY, ...policy }, { ...PHOTO, ...picture }, ALL, NOW);
    expect(`${decision.action} ${decision.reason}`).toBe(expected);
    expect(decision.message).toMatch(/\w.*\.$/);
  });
});

describe("who looks at it", () => {
  const asked = (picture: Partial<PictureFacts>, policy: Partial<VisionPolicy> = {}, available = ALL) => {
    const decision = decide({ ...USUAL_POLICY, ...policy }, { ...PHOTO, ...picture }, available, NOW);
    if (decision.action !== "analyse") return `${decision.action} ${decision.reason}`;
    return decision.analysts.map(({ name, resolution }) => `${name} ${resolution}`);
  };

  test("in the order of the installation, OCR last", () => {
    expect(asked({})).toEqual(["model:gigachat medium", "model:g medium", "tesseract medium"]);
    expect(asked({}, { ocr_fallback: false })).toEqual(["model:gigachat medium", "model:g medium"]);
    expect(asked({}, { analysts: ["model:g"] })).toEqual(["model:g medium", "tesseract medium"]);
  });

  test("webp and gif never go to GigaChat, not even by name", () => {
    for (const mimeType of ["image/webp", "image/gif"]) {
      expect(asked({ mimeType }).toString()).not.toContain("gigachat");
      expect(asked({ mimeType }, { analysts: ["model:gigachat"], text_first: ["model:gigachat"] }).toString())
        .not.toContain("gigachat");
    }
    expect(asked({ mimeType: "image/gif" })).toEqual(["tesseract medium"]);
  });

  test("what looks like text goes to its own first, and is looked at more closely", () => {
    const page = { mimeType: "image/png", width: 1240, height: 1754 };
    const policy = { text_first: ["tesseract"] };
    expect(asked(page, policy)).toEqual(["tesseract high", "model:gigachat high", "model:g high"]);
    expect(asked({ ...page, width: 2480, height: 3508 }, policy)[0]).toBe("tesseract ultra_high");
    expect(asked({}, policy)[0]).toBe("model:gigachat medium");
    expect(asked({ width: 300, height: 300 }, policy)[0]).toBe("model:gigachat low");
  });

  test("who is not set up may come, and the picture waits; who is there and does not take it never will", () => {
    expect(asked({}, {}, [])).toBe("wait no_analyst");
    expect(asked({}, { analysts: ["model:later"], ocr_fallback: false })).toBe("wait no_analyst");
    expect(asked({ mimeType: "image/heic" })).toBe("skip no_analyst_takes_it");
    expect(asked({ sizeBytes: 15_000_001 })).toBe("skip no_analyst_takes_it");
  });

  test.each([
    ["text", "image/png", 1080, 2400],
    ["usual", "image/jpeg", 768, 1600],
    ["usual", "image/jpeg", 3000, 4000],
    ["text", "image/tiff", 1754, 1240],
    ["small", "image/png", 384, 200],
  ])("%s: %s of %i x %i", (looks, mimeType, width, height) => {
    expect(pictureKind({ mimeType, width, height })).toBe(looks);
  });
});

test("the sample is stable: whatever else is known of a picture, and a larger sample holds the smaller one", () => {
  const hash = fc.stringMatching(/^[0-9a-f]{64}$/);
  const isIn = (sha256: string, sample_permille: number, more: Partial<PictureFacts> = {}) =>
    decide({ ...USUAL_POLICY, sample_permille }, { ...PHOTO, ...more, sha256 }, ALL, NOW).action !== "skip";
  fc.assert(
    fc.property(
      hash,
      fc.nat(1000),
      fc.nat(1000),
      fc.integer({ min: 64, max: 5000 }),
      (sha256, one, other, side) => {
        expect(isIn(sha256, one, { width: side, source: `s${side}` })).toBe(isIn(sha256, one));
        if (isIn(sha256, Math.min(one, other))) expect(isIn(sha256, Math.max(one, other))).toBe(true);
        expect(isIn(sha256, 1000)).toBe(true);
        expect(isIn(sha256, 0)).toBe(false);
      },
    ),
    { numRuns: 300 },
  );
  // Even: of hashes in a row, a tenth is in a tenth.
  const places = Array.from(
    { length: 10_000 },
    (_, n) => samplePlace((n * 2_654_435 >>> 0).toString(16).padStart(8, "0")),
  );
  const share = places.filter((place) => place < 100).length / places.length;
  expect(share).toBeGreaterThan(0.08);
  expect(share).toBeLessThan(0.12);
});

test("a policy is checked, and what it leaves out is as usual", () => {
  expect(visionPolicy.parse({})).toEqual(USUAL_POLICY);
  expect(visionPolicy.parse({ resolution: { text: "low" } }).resolution).toMatchObject({
    text: "low",
    usual: "medium",
  });
  for (const wrong of [{ sample_permille: 1001 }, { same_bits: 4 }, { skip: [] }, { analysts: [""] }]) {
    expect(visionPolicy.safeParse(wrong).success).toBe(false);
  }
});
