/** What is typed in the playground: kept while the tab is open, so that leaving the page loses nothing. */
export interface PlaygroundDraft {
  targets: (string | null)[];
  /** How many are asked side by side. */
  count: number;
  system: string;
  prompt: string;
}

const NAME = "eve-playground";
const EMPTY: PlaygroundDraft = { targets: [null, null, null], count: 1, system: "", prompt: "" };

export function readDraft(): PlaygroundDraft {
  try {
    return { ...EMPTY, ...JSON.parse(sessionStorage.getItem(NAME) ?? "{}") };
  } catch {
    return EMPTY;
  }
}

/** A full storage keeps what was there: the page itself has all of it. */
export function keepDraft(draft: Partial<PlaygroundDraft>): void {
  try {
    sessionStorage.setItem(NAME, JSON.stringify({ ...EMPTY, ...draft }));
  } catch {
    return;
  }
}

/** When somebody signs out: the next one is somebody else. */
export const dropDraft = (): void => sessionStorage.removeItem(NAME);
