import * as z from "zod";
import type { CachedContent } from "../../contract/cached_content.ts";
import { callersFault } from "../diagnoses.ts";
import { type CacheCall, ProviderFailure } from "../provider.ts";
import { connectionFailed } from "../upstream.ts";
import { type GoogleCall, type GoogleDestination, jsonFromGoogle } from "./fetch.ts";

const cachedContent = z.looseObject({
  name: z.string().regex(/^cachedContents\/[A-Za-z0-9_-]{1,100}$/),
  expireTime: z.iso.datetime({ offset: true }),
  usageMetadata: z.looseObject({ totalTokenCount: z.number().int().nonnegative() }),
});

type ToGoogle = CacheCall & Pick<GoogleDestination, "baseUrl" | "fetch">;

/** `cachedContents.create`: contents that Google keeps for the key's project. */
export async function createAtGoogle(
  { model, content, ...to }: ToGoogle & { model: string; content: Record<string, unknown> },
): Promise<CachedContent> {
  const body = { ...content, model: model.includes("/") ? model : `models/${model}` };
  return described(await asked({ ...to, path: "cachedContents", body }), to.secret);
}

/** `cachedContents.patch`: Google changes nothing but when it expires. */
export async function updateAtGoogle(
  { name, expiration, ...to }: ToGoogle & { name: string; expiration: Record<string, string> },
): Promise<CachedContent> {
  return described(await asked({ ...to, path: name, method: "PATCH", body: expiration }), to.secret);
}

/** `cachedContents.delete`. */
export async function removeAtGoogle({ name, ...to }: ToGoogle & { name: string }): Promise<void> {
  await asked({ ...to, path: name, method: "DELETE" });
}

/**
 * A model that keeps nothing is answered with 404, and a project that may keep nothing with 429: neither says anything about calls
 * for answers, so neither switches the model off for the key.
 */
async function asked(call: GoogleCall): Promise<Record<string, unknown>> {
  try {
    return await jsonFromGoogle(call);
  } catch (thrown) {
    if (!(thrown instanceof ProviderFailure)) throw thrown;
    const { diagnosis, message, upstreamStatus } = thrown;
    if (/CachedContentStorage/i.test(message)) {
      // Another key's project may be one that pays.
      const withoutBlock = { ...callersFault("unsupported_feature"), retryable: true, block: null };
      throw new ProviderFailure(withoutBlock, message, upstreamStatus);
    }
    if (diagnosis.fault !== "key_model") throw thrown;
    throw new ProviderFailure(callersFault("unsupported_feature"), message, upstreamStatus);
  }
}

function described(body: Record<string, unknown>, secret: string): CachedContent {
  const parsed = cachedContent.safeParse(body);
  if (parsed.success) return parsed.data;
  throw connectionFailed("a cached content of another form than documented", secret);
}
