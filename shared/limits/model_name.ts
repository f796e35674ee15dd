/** What a table calls a model, and what the API does. */

/** What display names leave away at the end of an id. */
const ENDINGS = ["", "-it", "-001", "-preview", "-latest", "-exp"];

/** `Gemini 2.5 Flash-Lite` to `gemini-2.5-flash-lite`; an id stays as it is. */
export function idFrom(name: string): string {
  return name.toLowerCase()
    .replace(/^(publishers\/google\/)?models\//, "")
    .replaceAll(/\((free|paid)[^)]*\)|[®™]/g, "")
    .replaceAll(/[()]/g, " ")
    .trim()
    .replaceAll(/[\s_]+/g, "-")
    .replaceAll(/-+/g, "-");
}

/**
 * The known model that a name means: its id, or its display name with what that leaves away at the end. Null: none, or it
 * might be several.
 */
export function knownModel(name: string, known: readonly string[]): string | null {
  const id = idFrom(name);
  for (const ending of ENDINGS) {
    if (known.includes(id + ending)) return id + ending;
  }
  return null;
}
