/**
 * Imported by every child process of the stack: ends the process when its standard input ends, which it does when
 * the stack is gone, however it went. Without this a killed stack would leave its children holding their ports.
 */

/** What was started in the background may still write its last row; the database is going down too. */
const GRACE_MS = 1_000;

(async () => {
  for await (const _ of Deno.stdin.readable) {
    // The stack writes nothing.
  }
  setTimeout(() => Deno.exit(0), GRACE_MS);
})();
