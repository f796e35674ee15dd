import { isObject } from "../contract/is_object.ts";
import { type JsonAllowance, parseInnerJson } from "../http/json.ts";

/** A result is an object upstream: as it is if it is one, else under the name that Google's documentation gives it. */
export function toolResponse(text: string, allowance: JsonAllowance): Record<string, unknown> {
  const value = parseInnerJson(text, allowance);
  if (isObject(value)) return value;
  return { output: Array.isArray(value) ? value : text };
}
