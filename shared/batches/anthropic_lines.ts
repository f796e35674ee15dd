import { isObject } from "../contract/is_object.ts";
import { type LineCheck, wrongLine } from "./batch_lines.ts";

/** What the lines of a batch ask for, as the gateway names it. */
export const ANTHROPIC_BATCH_ENDPOINT = "/anthropic/v1/messages";

/** As the API has it. */
const CUSTOM_ID = /^[a-zA-Z0-9_-]{1,64}$/;

/** `{custom_id, params}`, each params a body of `/v1/messages`. */
export function anthropicLines(): LineCheck {
  const seen = new Map<string, number>();
  return ({ custom_id: customId, params }, line) => {
    if (typeof customId !== "string" || !CUSTOM_ID.test(customId)) {
      return wrongLine(
        "invalid_custom_id",
        "custom_id",
        "custom_id must be 1 to 64 letters, digits, _ and -.",
      );
    }
    const before = seen.get(customId);
    if (before !== undefined) {
      return wrongLine("duplicate_custom_id", "custom_id", `Request ${before} has the same custom_id.`);
    }
    seen.set(customId, line);
    if (!isObject(params)) {
      return wrongLine("missing_required_parameter", "params", "params must be a JSON object.");
    }
    const { model, stream } = params;
    if (typeof model !== "string" || model === "" || model.length > 200) {
      return wrongLine(
        "missing_required_parameter",
        "params.model",
        "params.model must be the name of a model.",
      );
    }
    if (stream !== undefined && stream !== null && stream !== false) {
      return wrongLine("unsupported_parameter", "params.stream", "A batch has no streams: leave stream out.");
    }
    return { customId, model, path: ANTHROPIC_BATCH_ENDPOINT, body: params };
  };
}
