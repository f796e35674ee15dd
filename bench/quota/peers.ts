/**
 * What a user would otherwise have. None of these knows classes. Each gets the benefit of the doubt: it tries again until it
 * is served, and the two that count are told the limits, correct estimates by the real numbers once they have them, and after
 * a 429 wait exactly as long as Google says.
 */
import type { Contender, World } from "./contender.ts";
import { LIMITS } from "./load.ts";

const MINUTE_MS = 60_000;
/** Those who wait for the same instant come back spread over this time. */
const SPREAD_MS = 1_000;

/** A counter per project and clock minute in a common database: full, then wait for the next minute. */
export function minuteCounter(
  { time, upstream, journal, random, projects }: World,
): Contender {
  const lanes = Array.from(
    { length: projects },
    () => ({ minute: 0, starts: 0, tokens: 0 }),
  );
  let turn = 0;

  const take = (tokens: number): number | undefined => {
    const minute = Math.floor(time.now() / MINUTE_MS);
    for (let i = 0; i < projects; i++) {
      const number = (turn + i) % projects;
      const lane = lanes[number]!;
      if (lane.minute !== minute) {
        Object.assign(lane, { minute, starts: 0, tokens: 0 });
      }
      if (lane.starts >= LIMITS.rpm || lane.tokens + tokens > LIMITS.tpm) {
        continue;
      }
      lane.starts++;
      lane.tokens += tokens;
      turn = number + 1;
      return number;
    }
  };

  return {
    async serve(call) {
      const place = journal.nextPlace();
      for (;;) {
        const lane = take(call.estimate);
        if (lane === undefined) {
          await time.sleep(
            MINUTE_MS - time.now() % MINUTE_MS + random() * SPREAD_MS,
          );
          continue;
        }
        const startedAt = time.now();
        const { minute } = lanes[lane]!;
        const answer = await upstream.call(lane, call.real, () => {
          journal.served.push({
            ...call,
            place,
            booked: call.estimate,
            lane,
            startedAt,
          });
        });
        if (answer.admitted) {
          if (lanes[lane]!.minute === minute) {
            lanes[lane]!.tokens += call.real - call.estimate;
          }
          return;
        }
        await time.sleep(answer.retryMs + random() * SPREAD_MS);
      }
    },
  };
}

/** Programs that share the keys, each with limiters of its own. */
const PROGRAMS = 4;

/** An amount that flows back evenly; taken ahead of time, so that those who wait keep their order. */
class Bucket {
  #debt = 0;
  #at = 0;

  constructor(private readonly perMinute: number) {}

  /** Milliseconds until `amount` is there. */
  waitFor(now: number, amount: number): number {
    return Math.max(
      0,
      (this.#owed(now) + amount - this.perMinute) * MINUTE_MS / this.perMinute,
    );
  }

  take(now: number, amount: number): void {
    this.#debt = Math.max(0, this.#owed(now) + amount);
    this.#at = now;
  }

  #owed(now: number): number {
    return Math.max(
      0,
      this.#debt - (now - this.#at) * this.perMinute / MINUTE_MS,
    );
  }
}

/**
 * What each notebook had: a token bucket in its own memory, one for each key. It cannot see the others', so the
 * limits were divided among the programs by hand.
 */
export function localBuckets(
  { time, upstream, journal, random, projects }: World,
): Contender {
  const programs = Array.from(
    { length: PROGRAMS },
    () =>
      Array.from({ length: projects }, () => ({
        requests: new Bucket(LIMITS.rpm / PROGRAMS),
        tokens: new Bucket(LIMITS.tpm / PROGRAMS),
      })),
  );
  return {
    async serve(call) {
      const place = journal.nextPlace();
      const buckets = programs[call.client % PROGRAMS]!;
      for (;;) {
        const waits = buckets.map(({ requests, tokens }) =>
          Math.max(
            requests.waitFor(time.now(), 1),
            tokens.waitFor(time.now(), call.estimate),
          )
        );
        const lane = waits.indexOf(Math.min(...waits));
        const { requests, tokens } = buckets[lane]!;
        requests.take(time.now(), 1);
        tokens.take(time.now(), call.estimate);
        await time.sleep(waits[lane]!);
        const startedAt = time.now();
        const answer = await upstream.call(lane, call.real, () => {
          journal.served.push({
            ...call,
            place,
            booked: call.estimate,
            lane,
            startedAt,
          });
        });
        if (answer.admitted) {
          tokens.take(time.now(), call.real - call.estimate);
          return;
        }
        await time.sleep(answer.retryMs + random() * SPREAD_MS);
      }
    },
  };
}

/** As Google's own SDK backs off: a second, doubled each time, a minute at most, and up to a second more. */
const FIRST_BACK_OFF_MS = 1_000;
const LONGEST_BACK_OFF_MS = 60_000;

/** Keys in turn, no limiter: a 429 means the next key, and when all have refused, a pause that grows. */
export function roundRobin(
  { time, upstream, journal, random, projects }: World,
): Contender {
  let turn = 0;
  return {
    async serve(call) {
      const place = journal.nextPlace();
      for (let round = 0;; round++) {
        for (let tried = 0; tried < projects; tried++) {
          const lane = turn++ % projects;
          const startedAt = time.now();
          const answer = await upstream.call(lane, call.real, () => {
            journal.served.push({
              ...call,
              place,
              booked: call.estimate,
              lane,
              startedAt,
            });
          });
          if (answer.admitted) return;
        }
        const pause = Math.min(
          FIRST_BACK_OFF_MS * 2 ** round,
          LONGEST_BACK_OFF_MS,
        );
        await time.sleep(pause + random() * SPREAD_MS);
      }
    },
  };
}
