import type { Allowance, Lane } from "../api/shapes.ts";

const shareOf = ({ limit, used }: Allowance) => limit === null ? 0 : limit === 0 ? 1 : used / limit;

/** How much of the tightest limit is used, 0 to 1; of a closed lane 1. */
export const fullness = (lane: Lane): number =>
  lane.state === "no_quota" || lane.state === "no_key" ? 0 : lane.state !== "open" ? 1 : Math.min(
    1,
    Math.max(shareOf(lane.requests), shareOf(lane.tokens), shareOf(lane.requests_day)),
  );

/** Nobody uses it, and nothing is wrong with it. */
export const isIdle = (lane: Lane): boolean =>
  lane.state === "open" && lane.requests_day.used === 0 && lane.requests.used === 0 && lane.queued === 0 &&
  lane.running === 0;

/** The tightest first. */
export const byFullness = (one: Lane, other: Lane): number => fullness(other) - fullness(one);
