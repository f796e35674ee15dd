import { coloured } from "./table.ts";
import { safeForTerminal } from "./terminal.ts";

/** Longest line that is shown: what wraps cannot be wiped away. */
const LONGEST = 78;

/** Shows one line at the standard error that is written over, at a terminal only: a log would keep every one of them. */
export function terminalProgress(
  to: { isTerminal(): boolean; writeSync(bytes: Uint8Array): number } = Deno.stderr,
): (text: string) => void {
  if (!to.isTerminal()) return () => {};
  let shown = false;
  return (text) => {
    if (text === "" && !shown) return;
    to.writeSync(new TextEncoder().encode(`\r\x1b[K${safeForTerminal(text.slice(0, LONGEST), coloured)}`));
    shown = text !== "";
  };
}
