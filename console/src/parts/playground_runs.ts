/** The playground's answers: they go on, and stay, while another page is open. */
export interface Run {
  state: "idle" | "asking" | "queued" | "making" | "answering" | "done" | "failed";
  text: string;
  /** What came besides text: calls of tools, files. */
  parts: unknown[];
  problem: string | null;
  model: string | null;
  requestId: string | null;
  /** Until the first words, and until the end. */
  firstMs: number | null;
  totalMs: number | null;
  inputTokens: number | null;
  outputTokens: number | null;
  /** Of a stage that makes speech, songs or videos. */
  files: { url: string; mimeType: string; title: string | null }[];
}

export const NOTHING: Run = {
  state: "idle",
  text: "",
  parts: [],
  problem: null,
  model: null,
  requestId: null,
  firstMs: null,
  totalMs: null,
  inputTokens: null,
  outputTokens: null,
  files: [],
};

/** `asking`: ends what runs; null where nothing does. */
interface Runs {
  runs: Run[];
  asking: AbortController | null;
}

const NONE: Runs = { runs: [], asking: null };
let now = NONE;
const listeners = new Set<() => void>();

function set(next: Runs): void {
  now = next;
  for (const listener of listeners) listener();
}

/** Of the page's life; a reload forgets them. */
export const playgroundRuns = {
  /** With `read`, for useSyncExternalStore. */
  subscribe(listener: () => void): () => void {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
  read: () => now,
  begin(asking: AbortController, count: number): void {
    set({ runs: Array.from({ length: count }, () => NOTHING), asking });
  },
  update(index: number, change: Partial<Run>): void {
    set({ ...now, runs: now.runs.map((run, at) => at === index ? { ...run, ...change } : run) });
  },
  end(): void {
    set({ ...now, asking: null });
  },
  /** When somebody signs out: the next one is somebody else. */
  forget(): void {
    now.asking?.abort();
    set(NONE);
  },
};
