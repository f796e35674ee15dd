import { isObject } from "../contract/is_object.ts";
import { type LineCheck, MAX_NAME_LENGTH, wrongLine } from "./batch_lines.ts";

/** What lines may ask for, as OpenAI names it, and where the gateway answers it. */
export const BATCH_ENDPOINTS: Readonly<Record<string, string>> = {
  "/v1/chat/completions": "/openai/v1/chat/completions",
  "/v1/responses": "/openai/v1/responses",
  "/v1/embeddings": "/openai/v1/embeddings",
};

/** `{custom_id, method, url, body}`. @param endpoint one of `BATCH_ENDPOINTS` */
export function openaiLines(endpoint: string): LineCheck {
  const seen = new Map<string, number>();
  const path = BATCH_ENDPOINTS[endpoint]!;
  return ({ custom_id: customId, method, url, body }, line) => {
    if (typeof customId !== "string" || customId === "" || customId.length > MAX_NAME_LENGTH) {
      return wrongLine(
        "invalid_custom_id",
        "custom_id",
        `custom_id must be a text of 1 to ${MAX_NAME_LENGTH} characters.`,
      );
    }
    const before = seen.get(customId);
    if (before !== undefined) {
      return wrongLine("duplicate_custom_id", "custom_id", `Line ${before} has the same custom_id.`);
    }
    seen.set(customId, line);
    if (method !== "POST") return wrongLine("invalid_method", "method", "method must be POST.");
    if (url !== endpoint) {
      return wrongLine("mismatched_url", "url", `url must be the batch's endpoint, ${endpoint}.`);
    }
    if (!isObject(body)) {
      return wrongLine("missing_required_parameter", "body", "body must be a JSON object.");
    }
    const { model, stream } = body;
    if (typeof model !== "string" || model === "" || model.length > 200) {
      return wrongLine(
        "missing_required_parameter",
        "body.model",
        "body.model must be the name of a model.",
      );
    }
    if (stream !== undefined && stream !== null && stream !== false) {
      return wrongLine("unsupported_parameter", "body.stream", "A batch has no streams: leave stream out.");
    }
    return { customId, model, path, body };
  };
}
