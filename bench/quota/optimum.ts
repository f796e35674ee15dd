/** What was possible: the schedules that a run is measured against. They know every real number beforehand. */
import type { Served } from "./contender.ts";
import { fits, LaneHistory, leavesRoom, nextChange, type Start } from "./lane_history.ts";
import type { Limits, TrafficClass } from "./load.ts";

export interface Wish {
  tokens: number;
  class: TrafficClass;
  /** Not before this instant. */
  from: number;
}

/**
 * First come, first served, each on the lane where it can start first, as early as windows of `windowMs` allow. The other
 * class's starts (`others`, one history a lane) stand where they stood, and so do those that the own class has made (`before`).
 * Answers the start of each wish.
 */
export function bestSchedule(
  wishes: readonly Wish[],
  others: readonly Start[][],
  windowMs: number,
  limits: Limits,
  before: readonly Start[][] = others.map(() => []),
): number[] {
  const lanes = others.map((starts, lane) => ({
    own: new LaneHistory(before[lane]),
    others: new LaneHistory(starts),
    tail: Math.max(-Infinity, ...before[lane]!.map((start) => start.at)),
  }));
  return wishes.map((wish, place) => {
    let best: (typeof lanes)[number] | undefined;
    let bestAt = Infinity;
    for (const lane of lanes) {
      let at = Math.max(wish.from, lane.tail);
      while (at < bestAt && !fitsAt(lane, at, wish)) {
        at = nextChange([lane.own, lane.others], at, windowMs);
      }
      if (at < bestAt) [best, bestAt] = [lane, at];
    }
    best!.own.append({
      at: bestAt,
      tokens: wish.tokens,
      class: wish.class,
      place,
    });
    best!.tail = bestAt;
    return bestAt;
  });

  function fitsAt(
    lane: (typeof lanes)[number],
    at: number,
    wish: Wish,
  ): boolean {
    const all = [lane.own, lane.others];
    const held = all.map((history) =>
      history.between(
        history.countBefore(at - windowMs, Infinity),
        history.countBefore(at, Infinity),
      )
    );
    return fits(held, wish.tokens, limits) &&
      (wish.class === "interactive" ||
        leavesRoom(
          all,
          lane.others,
          wish.tokens,
          at,
          Infinity,
          windowMs,
          limits,
        ));
  }
}

/**
 * For each call, how much later it started than it could have, everything else being as it was: in milliseconds, 0 or
 * more. It could have started once it was wanted, not before those of its class that were ahead of it on the lane, and as soon as the strict window
 * of some lane had room beside all that had really started by then.
 */
export function delays(
  served: readonly Served[],
  lanes: number,
  windowMs: number,
  limits: Limits,
): Map<Served, number> {
  const startsOf = Array.from({ length: lanes }, (): Start[] => []);
  for (const call of served) startsOf[call.lane]!.push(startOf(call));
  const histories = startsOf.map((starts) => new LaneHistory(starts));
  const people = startsOf.map((starts) =>
    new LaneHistory(starts.filter((start) => start.class === "interactive"))
  );
  const tails = {
    interactive: histories.map(() => [] as number[]),
    batch: histories.map(() => [] as number[]),
  };

  const result = new Map<Served, number>();
  for (const call of served.toSorted((a, b) => a.place - b.place)) {
    let possible = call.startedAt;
    histories.forEach((history, lane) => {
      // Whom it overtook was not ahead of it.
      const ahead = latestUpTo(tails[call.class][lane]!, call.startedAt);
      let at = Math.max(call.wantedAt, ahead);
      while (at < possible) {
        const first = history.countBefore(at - windowMs, Infinity);
        const held = history.between(
          first,
          history.countBefore(at, call.place),
        );
        if (
          fits([held], call.real, limits) &&
          (call.class === "interactive" ||
            leavesRoom(
              [history],
              people[lane]!,
              call.real,
              at,
              call.place,
              windowMs,
              limits,
            ))
        ) {
          break;
        }
        at = nextChange([history], at, windowMs);
      }
      possible = Math.min(possible, at);
    });
    result.set(call, call.startedAt - possible);
    insert(tails[call.class][call.lane]!, call.startedAt);
  }
  return result;
}

export function startOf(call: Served): Start {
  return {
    at: call.startedAt,
    tokens: call.real,
    class: call.class,
    place: call.place,
  };
}

function latestUpTo(sorted: number[], most: number): number {
  for (let i = sorted.length - 1; i >= 0; i--) {
    if (sorted[i]! <= most) return sorted[i]!;
  }
  return -Infinity;
}

function insert(sorted: number[], value: number): void {
  let place = sorted.length;
  while (place > 0 && sorted[place - 1]! > value) place--;
  sorted.splice(place, 0, value);
}
