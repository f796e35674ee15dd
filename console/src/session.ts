import type { AuthClient } from "@supabase/auth-js";
import { dropDraft } from "./parts/playground_draft.ts";
import { dropPictures } from "./parts/playground_pictures.ts";
import { playgroundRuns } from "./parts/playground_runs.ts";

/** Who signs in, and stays signed in. */
export type Auth = InstanceType<typeof AuthClient>;

/** Whether a person has chosen to leave: a session that ends otherwise is one to sign in to again, with the page kept. */
let leaving = false;
let over = false;
const listeners = new Set<() => void>();

function tell(value: boolean): void {
  if (over === value) return;
  over = value;
  for (const listener of listeners) listener();
}

/** The gateway knows this session no more. */
export const markSessionOver = () => tell(true);

/** Somebody has signed in. */
export function beginSession(): void {
  leaving = false;
  tell(false);
}

export const isLeaving = () => leaving;

export function signOut(auth: Auth): void {
  leaving = true;
  dropDraft();
  dropPictures();
  playgroundRuns.forget();
  auth.signOut({ scope: "local" });
}

/** For useSyncExternalStore. */
export const sessionOver = {
  subscribe(listener: () => void): () => void {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
  read: () => over,
};
