import * as z from "zod";
import type { Asked, TrafficClass, Unresolved } from "../contract/request.ts";
import { traceIdOf } from "../http/trace.ts";
import type { RequestContext } from "./endpoint.ts";
import { type Fault, invalidRequest } from "./validated.ts";

/** What a caller may ask of the gateway itself where the body belongs to another API. */
export interface EveOptions {
  /** How long the start may lie ahead, in ms. 0: now or never. */
  maxWaitMs: number;
  class: TrafficClass;
  /** The client's own id; null if it brings none. */
  requestId: string | null;
  /** Keep prompt and answer for debugging; null: as the consumer's row says. */
  capture: boolean | null;
  /** Seconds that the answer is kept for and may be old; 0: neither; null: as the consumer's row says. */
  cacheTtlS: number | null;
}

/** 30 days, as the database has it. */
export const MAX_CACHE_TTL_S = 2_592_000;

export interface EveTerms {
  /** The most that a caller may ask to wait, in ms. */
  maxWaitMs: number;
  /** For callers that do not set it. */
  defaultWaitMs: number;
}

/** What the database takes as well. */
const MAX_ID_CHARS = 200;
/** Goes into headers and logs: visible ASCII. */
const PLAIN_NAME = /^[\x21-\x7e]+$/;

const shape = z.object({
  "x-eve-mode": z.enum(["wait", "no_wait"], { error: "must be wait or no_wait" }).default("wait"),
  "x-eve-max-wait-ms": z.string().regex(/^\d{1,9}$/, "must be a whole number of milliseconds").transform(
    Number,
  )
    .optional(),
  "x-eve-class": z.enum(["interactive", "batch"], { error: "must be interactive or batch" }).default(
    "interactive",
  ),
  "x-eve-request-id": z.string()
    .regex(PLAIN_NAME, "must be visible ASCII characters without spaces")
    .max(MAX_ID_CHARS, `must be no longer than ${MAX_ID_CHARS} characters`).optional(),
  "x-eve-capture": z.enum(["true", "false", "1", "0"], { error: "must be true or false" })
    .transform((value) => value === "true" || value === "1").optional(),
  "x-eve-cache-ttl": z.string()
    .regex(/^\d{1,7}$/, `must be a whole number of seconds, 0 to ${MAX_CACHE_TTL_S}`).transform(Number)
    .pipe(z.number().max(MAX_CACHE_TTL_S, `must be at most ${MAX_CACHE_TTL_S} seconds, which is 30 days`))
    .optional(),
});

/** Of all options, so that a misspelt one is told from another's header. */
const PREFIX = "x-eve-";

type Name = keyof typeof shape.shape;
const NAMES = Object.keys(shape.shape) as Name[];

/**
 * The `x-eve-*` options of a request, from its headers or, for clients that cannot set headers, its query.
 * @throws GatewayError `invalid_request`, naming the option that is wrong, unknown, or given twice with different values
 */
export function eveOptions(request: Request, terms: EveTerms): EveOptions {
  const faults: Fault[] = [];
  const parsed = shape.safeParse(given(request, faults));
  if (!parsed.success) {
    faults.push(
      ...parsed.error.issues.map((issue) => ({ field: String(issue.path[0]), problem: issue.message })),
    );
  }
  if (faults.length > 0 || !parsed.success) throw invalidRequest(faults);
  const options = parsed.data;
  return {
    maxWaitMs: waitOf(options["x-eve-mode"], options["x-eve-max-wait-ms"], terms),
    class: options["x-eve-class"],
    requestId: options["x-eve-request-id"] ?? null,
    capture: options["x-eve-capture"] ?? null,
    cacheTtlS: options["x-eve-cache-ttl"] ?? null,
  };
}

/**
 * The option `x-eve-cache-ttl` alone, as every endpoint has it.
 * @throws GatewayError `invalid_request`
 */
export function cacheTtlOf(request: Request): number | null {
  const name = "x-eve-cache-ttl";
  const value = request.headers.get(name) ??
    (request.url.includes("?") ? new URL(request.url).searchParams.get(name) : null);
  if (value === null || value.trim() === "") return null;
  const parsed = shape.shape[name].safeParse(value.trim());
  if (parsed.success) return parsed.data ?? null;
  throw invalidRequest([{ field: name, problem: parsed.error.issues[0]?.message ?? "is not valid" }]);
}

function given(request: Request, faults: Fault[]): Partial<Record<Name, string>> {
  const values: Partial<Record<Name, string>> = {};
  const unknown = new Set<string>();
  const take = (name: string, value: string) => {
    if (!name.startsWith(PREFIX)) return;
    if (!isName(name)) unknown.add(name);
    else if (value.trim() === "") return;
    else if (values[name] === undefined) values[name] = value.trim();
    else if (values[name] !== value.trim()) {
      faults.push({
        field: name,
        problem: "is given twice, with different values: send one of them",
      });
    }
  };
  for (const [name, value] of request.headers) take(name, value);
  if (request.url.includes("?")) {
    for (const [name, value] of new URL(request.url).searchParams) take(name.toLowerCase(), value);
  }
  for (const name of unknown) {
    faults.push({ field: name, problem: `there is no such option; there are ${NAMES.join(", ")}` });
  }
  return values;
}

function isName(name: string): name is Name {
  return Object.hasOwn(shape.shape, name);
}

function waitOf(mode: "wait" | "no_wait", asked: number | undefined, terms: EveTerms): number {
  const fault = (problem: string) => invalidRequest([{ field: "x-eve-max-wait-ms", problem }]);
  if (mode === "no_wait") {
    if (asked !== undefined && asked > 0) {
      throw fault("x-eve-mode no_wait does not wait: leave this option out");
    }
    return 0;
  }
  if (asked !== undefined && asked > terms.maxWaitMs) throw fault(`must be at most ${terms.maxWaitMs} here`);
  return asked ?? Math.min(terms.defaultWaitMs, terms.maxWaitMs);
}

/**
 * What a request asks of the gateway itself. From here on it has the client's id, if it brings one.
 * @throws GatewayError as `eveOptions`
 */
export function askedIn(
  context: RequestContext,
  endpoint: Asked["endpoint"],
  terms: EveTerms,
): Omit<Unresolved<Asked>, "metadata"> {
  const eve = eveOptions(context.request, terms);
  if (eve.requestId !== null) context.adoptRequestId(eve.requestId);
  return {
    id: context.requestId,
    idIsClients: eve.requestId !== null,
    endpoint,
    class: eve.class,
    maxWaitMs: eve.maxWaitMs,
    traceId: traceIdOf(context.request),
    capture: eve.capture,
  };
}
