/** What can be asked of a model at this endpoint. */
export const GEMINI_METHODS = [
  "generateContent",
  "streamGenerateContent",
  "countTokens",
  "embedContent",
  "batchEmbedContents",
  "batchGenerateContent",
] as const;

export type GeminiMethod = typeof GEMINI_METHODS[number];

export type GeminiRoute =
  | { kind: "call"; model: string; method: GeminiMethod }
  | { kind: "model"; model: string }
  | { kind: "models" }
  | { kind: "upload" }
  | { kind: "files" }
  | { kind: "file" | "download"; id: string }
  | { kind: "batches" }
  | { kind: "batch" | "cancel"; id: string }
  | { kind: "caches" }
  | { kind: "cache"; id: string }
  /** Under the API's address, and nothing that this gateway offers: tuned models. */
  | { kind: "unknown" };

/** As at the other endpoints; Google's own names have some forty characters. */
const MAX_MODEL_NAME = 200;

/** Clients differ in the version they put before their paths; the gateway answers all of them alike. */
const OURS = /^(?:\/upload)?\/v1(?:beta)?(?:\/|$)/;
/** A name with a colon in it is a stage's. */
const MODELS =
  /^\/v1(?:beta)?\/models(?:\/((?:(?:models|google|gemini)\/)*(?:stage:)?[^/:]+)(?::([A-Za-z]+))?)?$/;

const UPLOAD = /^\/upload\/v1(?:beta)?\/files$/;
const FILES = /^\/v1(?:beta)?\/files(?:\/([^/:]+)(:download)?)?$/;
const CACHES = /^\/v1(?:beta)?\/cachedContents(?:\/([A-Za-z0-9_-]{1,100}))?$/;
/** A batch is an operation, and is named as one by some. */
const BATCHES = /^\/v1(?:beta)?\/(?:batches|operations)(?:\/([^/:]+)(:cancel)?)?$/;

/** The method of the Gemini API at a path below the function's own; null if the path is not of that API. */
export function geminiRoute(path: string): GeminiRoute | null {
  if (!OURS.test(path)) return null;
  // Some clients encode the colon.
  const plain = path.replaceAll(/%3A/gi, ":");
  const [whole, name, method] = MODELS.exec(plain) ?? [];
  if (whole === undefined) return kept(plain);
  if (name === undefined) return { kind: "models" };
  const model = decoded(name);
  if (model === null || model.length > MAX_MODEL_NAME) return { kind: "unknown" };
  if (method === undefined) return { kind: "model", model };
  const known = GEMINI_METHODS.find((one) => one === method);
  return known === undefined ? { kind: "unknown" } : { kind: "call", model, method: known };
}

/** Files, caches and batches. */
function kept(path: string): GeminiRoute {
  if (UPLOAD.test(path)) return { kind: "upload" };
  const [isFile, file, download] = FILES.exec(path) ?? [];
  if (isFile !== undefined) {
    return file === undefined ? { kind: "files" } : { kind: download ? "download" : "file", id: file };
  }
  const [isCache, cache] = CACHES.exec(path) ?? [];
  if (isCache !== undefined) return cache === undefined ? { kind: "caches" } : { kind: "cache", id: cache };
  const [isBatch, batch, cancel] = BATCHES.exec(path) ?? [];
  if (isBatch === undefined) return { kind: "unknown" };
  return batch === undefined ? { kind: "batches" } : { kind: cancel ? "cancel" : "batch", id: batch };
}

function decoded(name: string): string | null {
  try {
    return decodeURIComponent(name);
  } catch {
    return null;
  }
}
