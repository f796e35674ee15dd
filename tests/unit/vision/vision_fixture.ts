import type { AnalysisRequest } from "../../../shared/vision/analyst.ts";
import type { VisionResult } from "../../../shared/vision/result.ts";

export const FOUND: VisionResult = {
  description: "A stage at night.",
  labels: ["concert"],
  objects: [{ name: "guitar", count: 2 }],
  ocr_text: "Афиша",
  is_meme: false,
  nsfw: false,
  scene: "stage",
  confidence: 0.9,
};

/** A picture of four bytes, that a service asks about. */
export function requestFor(more: Partial<AnalysisRequest> = {}): AnalysisRequest {
  return {
    picture: {
      sha256: "a".repeat(64),
      mimeType: "image/png",
      sizeBytes: 4,
      width: 640,
      height: 480,
      bytes: () => Promise.resolve(Uint8Array.of(0x89, 0x50, 0x4e, 0x47)),
    },
    resolution: "medium",
    requestId: "vision.step-1",
    traceId: "0af7651916cd43dd8448eb211c80319c",
    tenantId: "t1",
    caller: { kind: "service", consumerId: "c1", tokenId: null, name: "bot" },
    estimate: null,
    signal: new AbortController().signal,
    ...more,
  };
}
