/** Lets work go on after the response has gone. The promise must not reject. */
export type Background = (work: Promise<void>) => void;

interface EdgeRuntimeGlobal {
  EdgeRuntime?: { waitUntil?: (work: Promise<unknown>) => void };
}

/**
 * Hosted functions stop after the response unless the runtime is told what is still running; elsewhere the process
 * stays, and nothing has to be done.
 */
export const edgeBackground: Background = (work) => {
  (globalThis as EdgeRuntimeGlobal).EdgeRuntime?.waitUntil?.(work);
};
