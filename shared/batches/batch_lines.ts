import { isObject } from "../contract/is_object.ts";
import type { BatchError } from "../database/batches.ts";

/** As many lines as a batch may have. */
export const MAX_LINES = 50_000;
/** More are not kept: who has made a hundred mistakes has made one, a hundred times. */
export const MAX_ERRORS = 100;
const MAX_CUSTOM_ID_LENGTH = 512;

/** What lines may ask for, as OpenAI names it, and where the gateway answers it. */
export const BATCH_ENDPOINTS: Readonly<Record<string, string>> = {
  "/v1/chat/completions": "/openai/v1/chat/completions",
  "/v1/responses": "/openai/v1/responses",
  "/v1/embeddings": "/openai/v1/embeddings",
};

export interface CheckedLine {
  customId: string;
  model: string;
  body: Record<string, unknown>;
  /** In the file, from 1 on. */
  line: number;
}

/**
 * The lines of a batch's file, or what is wrong with it. What a call itself would be refused for is not looked at: its line says so in the
 * error file. Empty lines are passed over.
 * @param text JSON Lines
 * @param endpoint one of `BATCH_ENDPOINTS`
 */
export function checkedLines(text: string, endpoint: string): { lines: CheckedLine[]; errors: BatchError[] } {
  const lines: CheckedLine[] = [];
  const errors: BatchError[] = [];
  const seen = new Map<string, number>();
  let number = 0;
  for (let from = 0; from < text.length;) {
    const found = text.indexOf("\n", from);
    const end = found < 0 ? text.length : found;
    const written = text.slice(from, end).trim();
    from = end + 1;
    number++;
    if (written === "") continue;
    const checked = checkedLine(written, endpoint, number, seen);
    if ("code" in checked) errors.push(checked);
    else lines.push(checked);
    if (errors.length >= MAX_ERRORS) break;
    if (lines.length > MAX_LINES) {
      const message = `A batch has at most ${MAX_LINES} lines. Hand the others in as a second one.`;
      return { lines: [], errors: [{ code: "too_many_lines", message, param: null, line: number }] };
    }
  }
  if (lines.length === 0 && errors.length === 0) {
    const message = "The file holds no lines. Write one request a line, as JSON.";
    errors.push({ code: "empty_file", message, param: null, line: null });
  }
  return { lines, errors };
}

function checkedLine(
  written: string,
  endpoint: string,
  line: number,
  seen: Map<string, number>,
): CheckedLine | BatchError {
  const wrong = (code: string, param: string | null, message: string): BatchError => ({
    code,
    message,
    param,
    line,
  });
  let said: unknown;
  try {
    said = JSON.parse(written);
  } catch {
    said = null;
  }
  if (!isObject(said)) return wrong("invalid_json_line", null, "The line is no JSON object.");
  const { custom_id: customId, method, url, body } = said;
  if (typeof customId !== "string" || customId === "" || customId.length > MAX_CUSTOM_ID_LENGTH) {
    return wrong(
      "invalid_custom_id",
      "custom_id",
      `custom_id must be a text of 1 to ${MAX_CUSTOM_ID_LENGTH} characters.`,
    );
  }
  const before = seen.get(customId);
  if (before !== undefined) {
    return wrong("duplicate_custom_id", "custom_id", `Line ${before} has the same custom_id.`);
  }
  seen.set(customId, line);
  if (method !== "POST") return wrong("invalid_method", "method", "method must be POST.");
  if (url !== endpoint) {
    return wrong("mismatched_url", "url", `url must be the batch's endpoint, ${endpoint}.`);
  }
  if (!isObject(body)) return wrong("missing_required_parameter", "body", "body must be a JSON object.");
  const { model, stream } = body;
  if (typeof model !== "string" || model === "" || model.length > 200) {
    return wrong("missing_required_parameter", "body.model", "body.model must be the name of a model.");
  }
  if (stream !== undefined && stream !== null && stream !== false) {
    return wrong("unsupported_parameter", "body.stream", "A batch has no streams: leave stream out.");
  }
  // PostgreSQL's jsonb takes neither. Where the text has no such escape there is nothing to look for.
  if (/\\u(?:0000|d[89a-f])/i.test(written) && !isStorable(said)) {
    return wrong("invalid_text", null, "The line holds the character U+0000, or half of a character.");
  }
  return { customId, model, body, line };
}

function isStorable(value: unknown): boolean {
  if (typeof value === "string") return value.isWellFormed() && !value.includes("\0");
  if (typeof value !== "object" || value === null) return true;
  return Object.entries(value).every(([name, inner]) => isStorable(name) && isStorable(inner));
}
