/**
 * Lets so much be in memory at once: who wants more waits for those before. One that wants more than all has all of it.
 * @param most bytes
 */
export function byteGate(
  most: number,
): <Result>(bytes: number, run: () => Promise<Result>) => Promise<Result> {
  let free = most;
  const waiting: { bytes: number; go: () => void }[] = [];

  function release(): void {
    while (waiting.length > 0 && waiting[0]!.bytes <= free) {
      const { bytes, go } = waiting.shift()!;
      free -= bytes;
      go();
    }
  }

  return async (wanted, run) => {
    const bytes = Math.min(wanted, most);
    const turn = Promise.withResolvers<void>();
    waiting.push({ bytes, go: turn.resolve });
    release();
    await turn.promise;
    try {
      return await run();
    } finally {
      free += bytes;
      release();
    }
  };
}
