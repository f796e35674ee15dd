import { isObject } from "../contract/is_object.ts";
import { type LineCheck, MAX_NAME_LENGTH, wrongLine } from "./batch_lines.ts";

/** Where the gateway answers the lines of a batch for a model, and what the batch says of it. */
export function geminiBatchEndpoint(model: string): string {
  return `/v1beta/models/${encodeURIComponent(model)}:generateContent`;
}

/** The model in what `geminiBatchEndpoint` made. */
export function modelOfBatch(endpoint: string): string {
  return decodeURIComponent(/\/models\/([^/]+):generateContent$/.exec(endpoint)?.[1] ?? "");
}

/**
 * `{key, request}`, each request a body of `generateContent`; of those that came inline `{metadata, request}`. Keys may be missing, and come
 * twice: answers are in the order of their lines.
 * @param endpoint of the batch, which names the model of all its lines
 */
export function geminiLines(endpoint: string): LineCheck {
  const model = modelOfBatch(endpoint);
  return ({ key, request, metadata }) => {
    if (key !== undefined && (typeof key !== "string" || key === "" || key.length > MAX_NAME_LENGTH)) {
      return wrongLine("invalid_key", "key", `key must be a text of 1 to ${MAX_NAME_LENGTH} characters.`);
    }
    if (!isObject(request)) {
      return wrongLine("missing_required_parameter", "request", "request must be a JSON object.");
    }
    const { model: named, ...body } = request;
    if (named !== undefined && named !== model && named !== `models/${model}`) {
      return wrongLine(
        "mismatched_model",
        "request.model",
        `request.model must be the batch's, models/${model}. Another model is another batch.`,
      );
    }
    return {
      customId: key ?? null,
      model,
      path: endpoint,
      body,
      ...(isObject(metadata) && { metadata }),
    };
  };
}
