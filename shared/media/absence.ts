import type { Clock } from "../runtime/clock.ts";

/** Whether S3 is away, as this process has last seen: to sign an address asks nobody, so the signature knows nothing of it. */
export interface Absence {
  /** Told how an operation of the store has ended: `ok`, or the code of its error. */
  note(result: string): void;
  /** It was away a moment ago, and nothing has come from it since. */
  isRecent(): boolean;
}

/** After this somebody tries again: until then an upload would be sent to nobody, and longer than this most absences do not last. */
const RECENT_MS = 60_000;

export function createAbsence(clock: Clock): Absence {
  let seenAt: number | null = null;
  return {
    note(result) {
      seenAt = result === "storage_unavailable" ? clock.now() : null;
    },
    isRecent: () => seenAt !== null && clock.now() - seenAt < RECENT_MS,
  };
}
