/**
 * `npm run soak -- [--minutes N] [--seed S] [--json]`: mixed load with random faults, ending in a verdict.
 *
 * The whole local stack runs with PostgreSQL durable: bots (all three endpoints, streams, clients that hang up), notebooks that
 * fetch tokens of a minute's life at issue-kaggle-token, and a crowd before a model that is always full. Every few seconds
 * something breaks (tests/harness/load/troubles.ts) and is left to recover by itself. In the end all leases have run
 * out, and the independent checker, which shares nothing with the SQL, reads the books and lays them beside the emulator's journal,
 * call by call (tests/harness/load/verdict.ts).
 *
 * The database's clock jumps early on, if there is time for it: while it is wrong only the emulator can judge the minute, so windows
 * are judged from two minutes later to the end.
 *
 * Fields of the JSON line: `verdict` held or broken, `violations` in words, `figures` of calls and books, for each fault how often it
 * came and how long until a call made after it was answered (`recovered_ms`, worst), `longest_overdue_ms`: by how much a reservation
 * outlived its lease, `settlements_lost`, latencies of answered calls, `met`. The exit code is 0 if the verdict is held.
 */
import { freePorts } from "../local/ports.ts";
import { removeHomeElsewhere } from "../local/postgres_place.ts";
import { startStack } from "../local/stack.ts";
import { makeTestFolder, removeAbandonedTestFolders } from "../tests/harness/folders.ts";
import { openSite, STACK_OPTIONS } from "../tests/harness/load/site.ts";
import { seededRandom } from "./quota/random.ts";
import { soakArguments } from "./soak/arguments.ts";
import { soak } from "./soak/run.ts";

const options = soakArguments(Deno.args);
const tell = console.error.bind(console);
const say = (line: string) => tell(`${new Date().toISOString().slice(11, 19)} ${line}`);
// The embedded API prints every error of the database's, and here there are meant to be many.
console.error = () => {};

await removeAbandonedTestFolders();
const folder = await makeTestFolder();
const dataDir = `${folder.path}/data`;
const printed: string[] = [];
let held = false;
try {
  const stack = await startStack({
    ...STACK_OPTIONS,
    dataDir,
    port: freePorts(3)[0]!,
    log: (line) => say(`  ${line}`),
    output: (part, line) => part !== "postgres" && printed.push(line),
  });
  try {
    const site = await openSite(stack, seededRandom(options.seed));
    try {
      const report = await soak(site, { ...options, say, printed });
      held = report.verdict === "held";
      console.log(
        options.json ? JSON.stringify({ soak: report }) : JSON.stringify(report, null, 2),
      );
    } finally {
      await site.close();
    }
  } finally {
    await stack.stop();
  }
} finally {
  await removeHomeElsewhere(dataDir);
  await folder.remove();
}
Deno.exit(held ? 0 : 1);
