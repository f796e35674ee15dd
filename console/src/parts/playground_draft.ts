/** What is typed in the playground: kept while the tab is open, so that leaving the page loses nothing. */
export interface PlaygroundDraft {
  targets: (string | null)[];
  /** How many are asked side by side: 1 to 3. */
  count: number;
  system: string;
  prompt: string;
  /** As typed; empty: the model's own. */
  generation: Record<typeof GENERATION[number], string>;
  /** JSON, as typed; empty: none. */
  schema: string;
  tools: string;
}

export const GENERATION = ["temperature", "top_p", "max_output_tokens", "seed"] as const;

const NAME = "eve-playground";
const EMPTY: PlaygroundDraft = {
  targets: [null, null, null],
  count: 1,
  system: "",
  prompt: "",
  generation: { temperature: "", top_p: "", max_output_tokens: "", seed: "" },
  schema: "",
  tools: "",
};

export function readDraft(): PlaygroundDraft {
  try {
    return { ...EMPTY, ...JSON.parse(sessionStorage.getItem(NAME) ?? "{}") };
  } catch {
    return EMPTY;
  }
}

/** A full storage keeps what was there: the page itself has all of it. */
export function keepDraft(draft: Partial<PlaygroundDraft>): void {
  try {
    sessionStorage.setItem(NAME, JSON.stringify({ ...EMPTY, ...draft }));
  } catch {
    return;
  }
}

/** When somebody signs out: the next one is somebody else. */
export const dropDraft = (): void => sessionStorage.removeItem(NAME);

/** A part of a message, in Gemini's form. */
export interface Picture {
  inlineData: { mimeType: string; data: string };
}

interface Read {
  /** Undefined where there is none. */
  value: unknown;
  problem: { name: "not_json" | "not_list" | "not_object"; reason: string } | null;
}

/** A text that should be JSON; empty is nothing, and right. */
export function jsonOf(text: string, kind: "list" | "object"): Read {
  if (text.trim() === "") return { value: undefined, problem: null };
  try {
    const value: unknown = JSON.parse(text);
    const isKind = kind === "list"
      ? Array.isArray(value)
      : typeof value === "object" && value !== null && !Array.isArray(value);
    return isKind
      ? { value, problem: null }
      : { value: undefined, problem: { name: `not_${kind}`, reason: "" } };
  } catch (error) {
    return { value: undefined, problem: { name: "not_json", reason: (error as Error).message } };
  }
}

/** The body of llm-invoke's own API that asks this. What is not JSON is left out. */
export function bodyOf(
  { system, prompt, generation, schema, tools }: PlaygroundDraft,
  target: { model: string } | { stage: string },
  pictures: Picture[] = [],
): Record<string, unknown> {
  const chosen = GENERATION.filter((name) => generation[name] !== "")
    .map((name) => [name, Number(generation[name])]);
  const response_schema = jsonOf(schema, "object").value;
  const asked = jsonOf(tools, "list").value;
  return {
    ...target,
    ...(pictures.length === 0
      ? { prompt }
      : { contents: [{ role: "user", parts: [{ text: prompt }, ...pictures] }] }),
    ...(system.trim() && { system }),
    ...(chosen.length > 0 && { generation: Object.fromEntries(chosen) }),
    ...(response_schema !== undefined && { response_schema }),
    ...(asked !== undefined && { tools: asked }),
  };
}
