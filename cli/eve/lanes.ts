import type { LaneState } from "../../shared/database/reading.ts";
import { because } from "./key_advice.ts";
import { count, green, instant, red, table, yellow } from "./table.ts";

/** Lanes as a table: what is left of the minute and of the day, of how much. */
export function laneTable(lanes: readonly LaneState[]): string {
  return table(
    ["quota project", "model", "state", "left this minute>", "tokens left>", "left today>", "waiting>"],
    lanes.map((lane) => [
      lane.quota_project,
      lane.model + (lane.limits_from === "override" ? " *" : ""),
      stateOf(lane),
      left(lane.free === 0 ? { ...lane.requests, remaining: 0 } : lane.requests),
      left(lane.tokens),
      left(lane.requests_day),
      lane.queued === 0 ? "" : String(lane.queued),
    ]),
  );
}

/** A lane that was used today, or that cannot be used. */
export function isOfInterest(lane: LaneState): boolean {
  return lane.state !== "open" || lane.requests_day.used > 0 || lane.queued > 0 || lane.running > 0;
}

const left = ({ limit, remaining }: { limit: number | null; remaining: number | null }) =>
  limit === null ? "no limit" : `${count(remaining)} of ${count(limit)}`;

function stateOf(lane: LaneState): string {
  switch (lane.state) {
    case "open":
      return green("open");
    case "minute_used_up":
      return yellow("minute used up");
    case "day_used_up":
      return red(`day used up, until ${instant(lane.requests_day.resets_at)}`);
    case "paused":
      return red(
        `paused ${lane.blocked_until === "infinity" ? "" : "until "}${instant(lane.blocked_until)}: ${
          because(lane.blocked_reason)
        }`,
      );
    case "no_quota":
      return yellow("no quota");
    case "no_key":
      return red("no key");
  }
}
