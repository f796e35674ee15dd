import * as z from "zod";
import type { Log } from "../runtime/log.ts";
import { sha256Of } from "../runtime/sha256.ts";
import { visionKey } from "../media/object_key.ts";
import { type Media, storeOf } from "../media/storage.ts";
import { uploadFile } from "../media/upload/upload.ts";
import type { Analysis, Resolution } from "./analyst.ts";
import { PROMPT_VERSION } from "./prompt.ts";
import { checkedResult, RESULT_VERSION, type VisionResult } from "./result.ts";

/** What was found in a picture, by whom and how closely it was looked at. */
export interface CacheKey {
  tenantId: string;
  sha256: string;
  analyst: string;
  resolution: Resolution;
}

/** A result that was paid for once: the tokens are those of then. */
export interface CachedResult extends Pick<Analysis, "provider" | "model" | "inputTokens" | "outputTokens"> {
  result: VisionResult;
}

/** Results in the media storage: a hit costs no model and no budget. A cache that cannot be reached is a miss. */
export interface VisionCache {
  find(key: CacheKey): Promise<CachedResult | null>;
  save(key: CacheKey, found: CachedResult): Promise<void>;
}

const stored = z.object({
  provider: z.string(),
  model: z.string(),
  result: z.unknown(),
  input_tokens: z.number(),
  output_tokens: z.number(),
});

const PROJECT = { kind: "project" } as const;
/** A result has at most 64 KiB; what is larger is none of ours. */
const MAX_BYTES = 256 * 1024;

export function createVisionCache(media: () => Promise<Media>, log: Log): VisionCache {
  return {
    async find(key) {
      try {
        const opened = await media();
        const name = visionKey(key.tenantId, key.sha256, await modelPart(key), String(RESULT_VERSION));
        const found = await opened.registry.find(PROJECT, key.tenantId, name);
        const object = found?.object;
        if (!object?.s3_key || object.size_bytes === null || object.size_bytes > MAX_BYTES) return null;
        const { body } = await storeOf(opened, object.stored_in).get(object.s3_key);
        const { result, ...facts } = stored.parse(await new Response(body).json());
        const checked = checkedResult(result);
        if (!checked.ok) return null;
        const { provider, model, input_tokens: inputTokens, output_tokens: outputTokens } = facts;
        return { provider, model, inputTokens, outputTokens, result: checked.result };
      } catch (thrown) {
        log("warn", "vision_cache_unread", { sha256: key.sha256, detail: String(thrown) });
        return null;
      }
    },
    async save(key, { result, provider, model, inputTokens, outputTokens }) {
      try {
        const text = JSON.stringify({
          // Another picture with the same result is another object.
          source_sha256: key.sha256,
          schema_version: RESULT_VERSION,
          prompt_version: PROMPT_VERSION,
          analyst: key.analyst,
          resolution: key.resolution,
          provider,
          model,
          input_tokens: inputTokens,
          output_tokens: outputTokens,
          result,
        });
        await uploadFile(await media(), PROJECT, {
          tenantId: key.tenantId,
          kind: "vision",
          mimeType: "application/json",
          body: new TextEncoder().encode(text),
          metadata: {},
          links: {},
          vision: {
            sourceSha256: key.sha256,
            model: await modelPart(key),
            schemaVersion: String(RESULT_VERSION),
          },
        });
      } catch (thrown) {
        // The result is in the database; the next one is paid for again.
        log("warn", "vision_cache_unwritten", { sha256: key.sha256, detail: String(thrown) });
      }
    },
  };
}

/** The key's part for who looked and how: readable, and exact by eight digits of its hash. */
async function modelPart({ analyst, resolution }: CacheKey): Promise<string> {
  const exact = new TextEncoder().encode(`${analyst} ${resolution} ${PROMPT_VERSION}`);
  const readable = analyst.replace(/[^A-Za-z0-9.-]+/g, "_").slice(0, 60);
  return `${readable}.${resolution}.p${PROMPT_VERSION}.${(await sha256Of(exact)).slice(0, 8)}`;
}
