import type { Served } from "./contender.ts";

/**
 * How many calls were overtaken: one of their class that came later started earlier, on their own lane (`same_project`), or only
 * on another one, in a place that would have done for them too: it was made for as many tokens or more (`other_project`).
 */
export function overtaken(
  served: readonly Served[],
): { same_project: number; other_project: number } {
  const count = { same_project: 0, other_project: 0 };
  for (const trafficClass of ["interactive", "batch"] as const) {
    const inOrder = served.filter((call) => call.class === trafficClass).sort((
      a,
      b,
    ) => a.startedAt - b.startedAt || a.place - b.place);
    // The latest place seen so far: as long as it is smaller, nobody came past.
    let latest = -Infinity;
    inOrder.forEach((call, index) => {
      if (latest > call.place) {
        const past = inOrder.slice(0, index).filter((other) => overtook(other, call));
        if (past.some((other) => other.lane === call.lane)) {
          count.same_project++;
        } else if (past.length > 0) count.other_project++;
      }
      latest = Math.max(latest, call.place);
    });
  }
  return count;
}

function overtook(other: Served, call: Served): boolean {
  return other.place > call.place && other.startedAt < call.startedAt &&
    (other.lane === call.lane || other.booked >= call.booked);
}
