import { isObject } from "../../contract/is_object.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import { type Fault, invalidRequest } from "../validated.ts";

/** Whether a body declares functions as they were before there were tools: its answer has `function_call`, too. */
export function asksForFunctions(json: unknown): boolean {
  return isObject(json) && Array.isArray(json.functions) && json.functions.length > 0;
}

/**
 * A body with `functions`, `function_call` and what they were answered with, in the words of today: one tool is called at a time, and each
 * call has an id. What is neither stays as it is.
 * @throws GatewayError `invalid_request` for functions beside tools
 */
export function withoutLegacyFunctions(json: unknown): unknown {
  if (!isObject(json)) return json;
  const { functions, function_call: choice, ...body } = json;
  const messages = Array.isArray(body.messages) ? { messages: callsWithIds(body.messages) } : {};
  if (!asksForFunctions(json)) return { ...json, ...messages };
  if ((body.tools ?? null) !== null) {
    throw invalidRequest([{ field: "functions", problem: "has been replaced by tools: send one of them" }]);
  }
  return {
    ...body,
    ...messages,
    tools: (functions as unknown[]).map((one) => ({ type: "function", function: one })),
    parallel_tool_calls: false,
    ...((choice ?? null) !== null && {
      tool_choice: isObject(choice) ? { type: "function", function: choice } : choice,
    }),
  };
}

/** A function's result belongs to the last call of that name before it. */
function callsWithIds(messages: unknown[]): unknown[] {
  const last = new Map<unknown, string>();
  return messages.map((message, i) => {
    if (!isObject(message)) return message;
    const { function_call: call, ...said } = message;
    if (message.role === "assistant" && isObject(call) && (said.tool_calls ?? null) === null) {
      const id = `function_${i}`;
      last.set(call.name, id);
      return { ...said, tool_calls: [{ id, type: "function", function: call }] };
    }
    if (message.role !== "function") return message;
    return { ...message, role: "tool", tool_call_id: last.get(message.name) ?? String(message.name) };
  });
}

/** Names fields as the client sent them. */
export function inLegacyWords(thrown: unknown): unknown {
  if (!(thrown instanceof GatewayError) || thrown.code !== "invalid_request") return thrown;
  const faults = (thrown.details as Fault[]).map(({ field, problem }) => ({
    field: field.replace(/^tools\[(\d+)\](?:\.function)?/, "functions[$1]").replace(/^tools\b/, "functions")
      .replace(/^tool_choice\b(?:\.function)?/, "function_call"),
    problem,
  }));
  return invalidRequest(faults);
}
