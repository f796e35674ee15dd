/** What can be asked of a model at this endpoint. */
export const GEMINI_METHODS = [
  "generateContent",
  "streamGenerateContent",
  "countTokens",
  "embedContent",
  "batchEmbedContents",
] as const;

export type GeminiMethod = typeof GEMINI_METHODS[number];

export type GeminiRoute =
  | { kind: "call"; model: string; method: GeminiMethod }
  | { kind: "model"; model: string }
  | { kind: "models" }
  /** Under the API's address, and nothing that this gateway offers: files, caches, tuned models, batches. */
  | { kind: "unknown" };

/** As at the other endpoints; Google's own names have some forty characters. */
const MAX_MODEL_NAME = 200;

/** Clients differ in the version they put before their paths; the gateway answers all of them alike. */
const OURS = /^\/v1(?:beta)?(?:\/|$)/;
/** A name with a colon in it is a stage's. */
const MODELS = /^\/v1(?:beta)?\/models(?:\/((?:stage:)?[^/:]+)(?::([A-Za-z]+))?)?$/;

/** The method of the Gemini API at a path below the function's own; null if the path is not of that API. */
export function geminiRoute(path: string): GeminiRoute | null {
  if (!OURS.test(path)) return null;
  // Some clients encode the colon.
  const [whole, name, method] = MODELS.exec(path.replaceAll(/%3A/gi, ":")) ?? [];
  if (whole === undefined) return { kind: "unknown" };
  if (name === undefined) return { kind: "models" };
  const model = decoded(name);
  if (model === null || model.length > MAX_MODEL_NAME) return { kind: "unknown" };
  if (method === undefined) return { kind: "model", model };
  const known = GEMINI_METHODS.find((one) => one === method);
  return known === undefined ? { kind: "unknown" } : { kind: "call", model, method: known };
}

function decoded(name: string): string | null {
  try {
    return decodeURIComponent(name);
  } catch {
    return null;
  }
}
