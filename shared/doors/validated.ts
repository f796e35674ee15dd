import { z } from "zod";
import { GatewayError } from "../contract/gateway_error.ts";

/** More than these would not help anybody mend the request. */
const MAX_FAULTS = 20;

export interface Fault {
  /** `messages[1].content`; empty: the body itself. */
  field: string;
  problem: string;
}

/**
 * A body that matches its schema.
 * @throws GatewayError `invalid_request`, naming each field that does not
 */
export function validated<Shape extends z.ZodType>(shape: Shape, body: unknown): z.output<Shape> {
  const parsed = shape.safeParse(body);
  if (parsed.success) return parsed.data;
  throw invalidRequest(parsed.error.issues.flatMap(faultsOf));
}

export function invalidRequest(faults: Fault[]): GatewayError {
  const [first] = faults;
  const summary = first === undefined
    ? undefined
    : `The request is not valid: ${first.field === "" ? "" : `${first.field}: `}${first.problem}` +
      (faults.length > 1 ? ` (and ${faults.length - 1} more, see details).` : ".");
  return new GatewayError("invalid_request", { message: summary, details: faults.slice(0, MAX_FAULTS) });
}

function faultsOf(issue: z.core.$ZodIssue): Fault[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({
      field: nameOf([...issue.path, key]),
      problem: "this door knows no such field",
    }));
  }
  return [{ field: nameOf(issue.path), problem: lowerFirst(issue.message) }];
}

function nameOf(path: readonly PropertyKey[]): string {
  return path.reduce<string>((name, step) => {
    if (typeof step === "number") return `${name}[${step}]`;
    return name === "" ? String(step) : `${name}.${String(step)}`;
  }, "");
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
