import type { Clock } from "../../runtime/clock.ts";
import type { Log } from "../../runtime/log.ts";
import { asGatewayError } from "../../contract/gateway_error.ts";
import type { CachedAnswers } from "../../database/answer_cache.ts";
import type { JobMedia } from "../../media/job_media.ts";

/** Where answers are kept. */
export interface AnswerCache {
  answers: CachedAnswers;
  /** For those that are too long for their table. */
  media: JobMedia;
  /** Seconds that a consumer's answers are kept for without its asking; 0: never; undefined: only if it asks. */
  ttlOf(consumerId: string | null): Promise<number | undefined>;
}

/** A consumer's row is known to be changed within this time. Calls that are not kept must not cost a question each. */
const REFRESH_MS = 10_000;
/** The project itself, in the database. */
const PROJECT_ID = "00000000-0000-0000-0000-000000000000";

interface Parts {
  answers: CachedAnswers;
  media: JobMedia;
  clock: Pick<Clock, "now">;
  log: Log;
}

export function createAnswerCache({ answers, media, clock, log }: Parts): AnswerCache {
  let known: Record<string, number> | null = null;
  let askedAt = -Infinity;
  let asking: Promise<void> | null = null;

  async function ask(): Promise<void> {
    askedAt = clock.now();
    try {
      known = await answers.consumers();
    } catch (thrown) {
      // Without it calls are served as if nothing were kept; what is known stays known.
      const { code, detail } = asGatewayError(thrown);
      log("warn", "cache_consumers_unread", { code, detail });
      known ??= {};
    } finally {
      asking = null;
    }
  }

  return {
    answers,
    media,
    async ttlOf(consumerId) {
      if (clock.now() - askedAt >= REFRESH_MS) asking ??= ask();
      // Only the first call of an instance waits.
      if (known === null) await asking;
      return known?.[consumerId ?? PROJECT_ID];
    },
  };
}
