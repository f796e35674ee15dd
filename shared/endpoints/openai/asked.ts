import type { Asked, Unresolved } from "../../contract/request.ts";
import type { RequestContext } from "../endpoint.ts";
import { askedIn } from "../eve_options.ts";
import { IgnoredFields } from "../ignored_fields.ts";

/** What all calls of this endpoint are made with. */
export interface CallOptions {
  /** The most that a caller may ask to wait, in ms, and what they wait unless they say otherwise. */
  maxWaitMs: number;
  /** True: fields that an answer does without are refused, too. Absent: they are named in `x-eve-ignored`. */
  strictFields?: boolean | undefined;
  /** Milliseconds since the epoch. */
  now: () => number;
}

/** What a request asks of the gateway itself. From here on it has the client's id, if it brings one. */
export function askedOf(
  context: RequestContext,
  { maxWaitMs }: Pick<CallOptions, "maxWaitMs">,
): Omit<Unresolved<Asked>, "metadata"> {
  return askedIn(context, "openai", { maxWaitMs, defaultWaitMs: maxWaitMs });
}

/** Takes the names of fields that an answer does without; null: they are refused. */
export function ignoredBy({ strictFields }: Pick<CallOptions, "strictFields">): IgnoredFields | null {
  return strictFields === true ? null : new IgnoredFields();
}

/** Seconds since 1970. */
export const createdAt = ({ now }: Pick<CallOptions, "now">) => Math.floor(now() / 1_000);
