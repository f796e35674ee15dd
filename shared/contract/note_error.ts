import type { Caller } from "./caller.ts";

/**
 * Is given every error that a function answers; caller null: no consumer, or nobody was recognised. Neither throws nor
 * waits.
 */
export type NoteError = (
  error: { readonly code: string; readonly status: number },
  caller: Pick<Caller, "consumerId"> | null,
) => void;

/** The project's own key, as counts of refused requests have it. */
export const PROJECT_CALLER: Pick<Caller, "consumerId"> = { consumerId: null };
