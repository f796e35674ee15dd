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
  // As `safeParse`, but for the issues: a body of a hundred kilobytes may have tens of thousands, and to word them all
  // takes a second in which nobody else is served.
  const context = { async: false as const };
  const parsed = shape._zod.run({ value: body, issues: [] }, context);
  if (parsed instanceof Promise) throw new z.core.$ZodAsyncError();
  if (parsed.issues.length === 0) return parsed.value as z.output<Shape>;
  const worded = parsed.issues.slice(0, MAX_FAULTS).map((issue) =>
    z.core.util.finalizeIssue(issue, context, z.core.config())
  );
  throw invalidRequest(worded.flatMap(faultsOf), parsed.issues.length);
}

/** @param found how many faults there are, where not all of them are told */
export function invalidRequest(faults: Fault[], found = faults.length): GatewayError {
  const [first] = faults;
  const others = Math.max(found, faults.length) - 1;
  const summary = first === undefined
    ? undefined
    : `The request is not valid: ${first.field === "" ? "" : `${first.field}: `}${first.problem}` +
      (others > 0 ? ` (and ${others} more, see details).` : ".");
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
