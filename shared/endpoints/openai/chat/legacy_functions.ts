import { isObject } from "../../../contract/is_object.ts";
import { GatewayError } from "../../../contract/gateway_error.ts";
import { type Fault, invalidRequest } from "../../validated.ts";

/** Whether a body declares functions as they were before there were tools: its answer has `function_call`, too. */
export function asksForFunctions(json: unknown): boolean {
  return isObject(json) && Array.isArray(json.functions) && json.functions.length > 0;
}

/**
 * A body with `functions` and `function_call` in the words of today: one tool is called at a time. What has neither stays as it is.
 * @throws GatewayError `invalid_request` for functions beside tools
 */
export function withoutLegacyFunctions(json: unknown): unknown {
  if (!isObject(json) || !asksForFunctions(json)) return json;
  const { functions, function_call: choice, ...body } = json;
  if ((body.tools ?? null) !== null) {
    throw invalidRequest([{ field: "functions", problem: "has been replaced by tools: send one of them" }]);
  }
  return {
    ...body,
    tools: (functions as unknown[]).map((one) => ({ type: "function", function: one })),
    parallel_tool_calls: false,
    ...((choice ?? null) !== null && {
      tool_choice: isObject(choice) ? { type: "function", function: choice } : choice,
    }),
  };
}

/**
 * A message with a `function_call`, or a function's result, as one of today. A call had no id then: its function's name stands for it, since a
 * result belongs to the last call before it that has its id.
 */
export function messageOfToday(message: unknown): unknown {
  if (!isObject(message)) return message;
  if (message.role === "function") {
    return { ...message, role: "tool", tool_call_id: idOf(message.name) };
  }
  if (message.role !== "assistant" || !isObject(message.function_call)) return message;
  const { function_call: call, ...said } = message;
  if ((said.tool_calls ?? null) !== null) return message;
  return { ...said, tool_calls: [{ id: idOf(call.name), type: "function", function: call }] };
}

const idOf = (name: unknown) => `function_${String(name)}`;

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
