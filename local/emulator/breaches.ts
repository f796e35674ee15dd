/**
 * What clients did against the limits that Google publishes, by what the emulator saw. It shares no code with the gateway, nor with the
 * emulator's own quota.
 */
import type { AdmittedRequest, SeenRequest } from "./journal.ts";

/** https://ai.google.dev/gemini-api/docs/image-understanding: inline data in a request, its types, and pictures a request. */
export const PUBLISHED = {
  requestBytes: 20_000_000,
  imagesInRequest: 3_600,
  imageTypes: ["image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"],
} as const;

/** A project's, for one model; null: none. */
export interface PublishedLimits {
  rpm: number | null;
  /** Input tokens. */
  tpm: number | null;
  rpd: number | null;
}

const MINUTE_MS = 60_000;

/**
 * In any minute, wherever it begins, and on any Pacific day, a project has sent a model no more than it may. Nothing: [].
 * @param admitted all of them, oldest first
 */
export function quotaBreachesOf(admitted: readonly AdmittedRequest[], limits: PublishedLimits): string[] {
  const breaches: string[] = [];
  const lanes = Map.groupBy(admitted, ({ project, model }) => `${project} ${model}`);
  const day = new Intl.DateTimeFormat("en-CA", { timeZone: "America/Los_Angeles", dateStyle: "short" });
  for (const [lane, calls] of lanes) {
    let [first, requests, tokens] = [0, 0, 0];
    const days = new Map<string, number>();
    for (const call of calls) {
      requests += call.requests;
      tokens += call.tokens;
      for (; calls[first]!.at <= call.at - MINUTE_MS; first++) {
        requests -= calls[first]!.requests;
        tokens -= calls[first]!.tokens;
      }
      const on = day.format(call.at);
      days.set(on, (days.get(on) ?? 0) + call.requests);
      const at = `${lane} at ${new Date(call.at).toISOString()}`;
      if (requests > (limits.rpm ?? Infinity)) breaches.push(`${at}: ${requests} requests in a minute`);
      if (tokens > (limits.tpm ?? Infinity)) breaches.push(`${at}: ${tokens} tokens in a minute`);
      if (days.get(on)! > (limits.rpd ?? Infinity)) breaches.push(`${at}: ${days.get(on)} requests on ${on}`);
    }
  }
  return breaches;
}

/** Pictures of a wrong type, too many of them, and requests that are too large. Nothing: []. */
export function pictureBreachesOf(seen: readonly SeenRequest[]): string[] {
  const breaches: string[] = [];
  for (const [place, { headers, body }] of seen.entries()) {
    const bytes = Number(headers["content-length"] ?? body.length);
    if (bytes > PUBLISHED.requestBytes) breaches.push(`${place}: ${bytes} bytes`);
    // The journal keeps a body's beginning, and a picture says its type before its bytes.
    const types = [...body.matchAll(/"mime_?[tT]ype":\s*"(image\/[^"]*)"/g)].map(([, type]) => type!);
    if (types.length > PUBLISHED.imagesInRequest) breaches.push(`${place}: ${types.length} pictures`);
    for (const type of types) {
      if (!(PUBLISHED.imageTypes as readonly string[]).includes(type)) breaches.push(`${place}: ${type}`);
    }
  }
  return breaches;
}
