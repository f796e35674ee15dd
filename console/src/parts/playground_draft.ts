import { questionOf } from "./captured_call.ts";
import type { CallBody } from "./snippets.ts";

/** What is typed in the playground: kept while the tab is open, so that leaving the page loses nothing. */
export interface PlaygroundDraft {
  targets: (string | null)[];
  /** How many are asked side by side: 1 to 3. */
  count: number;
  system: string;
  prompt: string;
  /** As typed; empty: the model's own. */
  generation: Record<typeof GENERATION[number], string>;
  /** For models that think; a level or a budget, and empty: the model's own. */
  thinking: { thinking_level: string; thinking_budget: string };
  /** JSON, as typed; empty: none. */
  schema: string;
  tools: string;
  /** What was said before the prompt, in Gemini's form. */
  turns: string;
  /** Other fields of the call's body. */
  more: string;
}

export const GENERATION = ["temperature", "top_p", "max_output_tokens", "seed"] as const;

const NAME = "eve-playground";
const EMPTY: PlaygroundDraft = {
  targets: [null, null, null],
  count: 1,
  system: "",
  prompt: "",
  generation: { temperature: "", top_p: "", max_output_tokens: "", seed: "" },
  thinking: { thinking_level: "", thinking_budget: "" },
  schema: "",
  tools: "",
  turns: "",
  more: "",
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

/** The turns before the prompt; what is not JSON is none. */
export const turnsIn = ({ turns }: PlaygroundDraft): unknown[] =>
  jsonOf(turns, "list").value as unknown[] | undefined ?? [];

/**
 * The body of llm-invoke's own API that asks this. What is not JSON is left out.
 * @param thinks whether the target takes settings of thinking
 */
export function bodyOf(
  draft: PlaygroundDraft,
  target: { model: string } | { stage: string },
  pictures: Picture[] = [],
  thinks = false,
): CallBody {
  const { system, prompt, generation, thinking, schema, tools } = draft;
  const more = (jsonOf(draft.more, "object").value ?? {}) as { generation?: object };
  const { thinking_level, thinking_budget } = thinking;
  const chosen = {
    ...more.generation,
    ...Object.fromEntries(
      GENERATION.filter((name) => generation[name] !== "").map((name) => [name, Number(generation[name])]),
    ),
    ...(thinks && thinking_level !== "" && { thinking_level }),
    ...(thinks && thinking_budget !== "" && { thinking_budget: Number(thinking_budget) }),
  };
  const response_schema = jsonOf(schema, "object").value;
  const asked = jsonOf(tools, "list").value;
  const turns = turnsIn(draft);
  const parts = [...(prompt.trim() === "" ? [] : [{ text: prompt }]), ...pictures];
  return {
    ...more,
    ...target,
    ...(pictures.length === 0 && turns.length === 0
      ? { prompt }
      : { contents: [...turns, ...(parts.length === 0 ? [] : [{ role: "user", parts }])] }),
    ...(system.trim() && { system }),
    ...(Object.keys(chosen).length > 0 && { generation: chosen }),
    ...(response_schema !== undefined && { response_schema }),
    ...(asked !== undefined && { tools: asked }),
  };
}

/** The draft that asks what a call asked, and the files that were in its question. */
export function draftOf(
  target: string,
  body: CallBody,
): { draft: Partial<PlaygroundDraft>; files: ReturnType<typeof questionOf>["files"] } {
  const { prompt: _, contents: _contents, system, generation, response_schema, tools, ...more } = body;
  const { turns, prompt, files } = questionOf(body);
  const settings = { ...generation as Record<string, unknown> | undefined };
  const taken = (name: string): string => {
    const value = settings[name];
    if (typeof value !== "number" && typeof value !== "string") return "";
    delete settings[name];
    return String(value);
  };
  const json = (value: unknown) => value === undefined ? "" : JSON.stringify(value, null, 2);
  const draft = {
    targets: [target, null, null],
    prompt,
    system: typeof system === "string" ? system : "",
    generation: Object.fromEntries(GENERATION.map((name) => [name, taken(name)])),
    thinking: {
      thinking_level: taken("thinking_level").toUpperCase(),
      thinking_budget: taken("thinking_budget"),
    },
    schema: json(response_schema),
    tools: json(tools),
    turns: turns.length === 0 ? "" : json(turns),
  } as Partial<PlaygroundDraft>;
  // All that has no field of its own on the page.
  const others = { ...more, ...(Object.keys(settings).length > 0 && { generation: settings }) };
  return { draft: { ...draft, more: Object.keys(others).length === 0 ? "" : json(others) }, files };
}
