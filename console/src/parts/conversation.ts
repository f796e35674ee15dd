import { isObject } from "../../../shared/contract/is_object.ts";

/** What was said, out of what was captured in Gemini's shapes. */
export interface Turn {
  /** `system`, `user`, `model` or what the capture says. */
  role: string;
  text: string;
}

interface Captured {
  contents?: unknown;
  content?: unknown;
  candidates?: unknown;
  systemInstruction?: unknown;
}

function turnOf(content: unknown, role: string): Turn[] {
  if (!isObject(content) || !Array.isArray(content.parts)) return [];
  const text = content.parts.map((part: unknown) =>
    isObject(part) && typeof part.text === "string"
      ? part.text
      : `[${isObject(part) ? Object.keys(part)[0] : ""}]`
  ).join("");
  return [{ role: typeof content.role === "string" ? content.role : role, text }];
}

const listOf = (value: unknown): unknown[] => Array.isArray(value) ? value : [];

/** Empty where it has none of these shapes: then only the JSON is shown. */
export function turnsOf(captured: unknown, role: "user" | "model"): Turn[] {
  if (typeof captured === "string") return [{ role, text: captured }];
  if (!isObject(captured)) return [];
  const { contents, content, candidates, systemInstruction }: Captured = captured;
  return [
    ...turnOf(systemInstruction, "system").map((turn) => ({ ...turn, role: "system" })),
    ...listOf(contents).flatMap((one) => turnOf(one, role)),
    ...turnOf(content, role),
    ...listOf(candidates).flatMap((one) => isObject(one) ? turnOf(one.content, role) : []),
    ...("parts" in captured ? turnOf(captured, role) : []),
  ];
}
