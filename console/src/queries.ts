import { QueryClient } from "@tanstack/react-query";
import { ApiError } from "./api/api.ts";

/** How often what is on the screen is asked for again. A hidden tab asks for nothing. */
export const EVERY_MS = { tail: 1_000, lanes: 2_000, requests: 4_000, slow: 15_000 } as const;

const TRIES = 2;

export function createQueries(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        // What the caller did wrong does not become right by asking again.
        retry: (failed, error) =>
          failed < TRIES && !(error instanceof ApiError && error.status >= 400 && error.status < 500),
        refetchIntervalInBackground: false,
        placeholderData: (previous: unknown) => previous,
      },
    },
  });
}
