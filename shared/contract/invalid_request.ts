import { GatewayError } from "./gateway_error.ts";

/** A list of more would not help anyone to correct the request. */
export const MAX_FAULTS = 20;

export interface Fault {
  /** `messages[1].content`; empty: the body itself. */
  field: string;
  problem: string;
}

/** @param found how many faults there are, where not all of them are listed */
export function invalidRequest(faults: Fault[], found = faults.length): GatewayError {
  const [first] = faults;
  const others = Math.max(found, faults.length) - 1;
  const summary = first === undefined
    ? undefined
    : `The request is not valid: ${first.field === "" ? "" : `${first.field}: `}${first.problem}` +
      (others > 0 ? ` (and ${others} more, see details).` : ".");
  return new GatewayError("invalid_request", { message: summary, details: faults.slice(0, MAX_FAULTS) });
}

/** `["messages", 1, "content"]` -> `messages[1].content` */
export function fieldName(path: readonly PropertyKey[]): string {
  return path.reduce<string>((name, step) => {
    if (typeof step === "number") return `${name}[${step}]`;
    return name === "" ? String(step) : `${name}.${String(step)}`;
  }, "");
}
