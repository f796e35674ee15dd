import type { Clock } from "../../runtime/clock.ts";
import { AnalysisFailure, type Analyst } from "../analyst.ts";

/** Of a provider that is down: nobody was asked. */
export const PROVIDER_DOWN = "provider_down";
/** What a provider that is down looks like. The gateway has tried other keys by then. */
const DOWN: ReadonlySet<string> = new Set(["upstream_unavailable", "upstream_timeout"]);
/** It answered, though with no result. */
const ANSWERS: ReadonlySet<string> = new Set([
  "content_blocked",
  "upstream_rate_limited",
  "upstream_daily_limit",
]);
/** Calls in a row that find it down. One alone may be the picture's fault. */
const MOST_FAILURES = 3;
/** Until it is asked again, by one picture; twice as long each time that it is still down. */
const FIRST_PAUSE_MS = 30_000;
const LONGEST_PAUSE_MS = 300_000;

/**
 * An analyst that is not asked while its provider is down: pictures do not wait for its timeouts, and another analyst looks at them at once.
 * Then one picture tries it; if it is answered all go to it again. Known to this process alone.
 */
export function withBreaker(analyst: Analyst, clock: Pick<Clock, "now">): Analyst {
  let failures = 0;
  let pauseMs = FIRST_PAUSE_MS;
  /** Null: it is asked as usual. */
  let openUntil: number | null = null;
  let probing = false;

  function opens(): void {
    openUntil = clock.now() + pauseMs;
    pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
  }

  function answered(): void {
    [failures, pauseMs, openUntil] = [0, FIRST_PAUSE_MS, null];
  }

  return {
    ...analyst,
    async analyse(request) {
      const isProbe = openUntil !== null;
      if (openUntil !== null) {
        const leftMs = openUntil - clock.now();
        if (leftMs > 0 || probing) {
          throw new AnalysisFailure(
            "no_capacity",
            PROVIDER_DOWN,
            "its provider is down, and asked again later",
            {
              retryAfterMs: Math.max(leftMs, 1_000),
            },
          );
        }
        probing = true;
      }
      try {
        const analysis = await analyst.analyse(request);
        // One that was kept says nothing of the provider.
        if (!analysis.replayed) answered();
        return analysis;
      } catch (thrown) {
        if (thrown instanceof AnalysisFailure) {
          if (DOWN.has(thrown.code)) {
            failures++;
            // Those that were under way when it opened say nothing new.
            if (isProbe || openUntil === null && failures >= MOST_FAILURES) opens();
          } else if (ANSWERS.has(thrown.code)) answered();
        }
        throw thrown;
      } finally {
        if (isProbe) probing = false;
      }
    },
  };
}
