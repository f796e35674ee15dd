// npm run test:busy -- [--runs 10] [--loops 2] [-- vitest arguments]: the suite over and over while busy loops take the
// machine's time, one for each core. Prints a line for each run and JSON in the last line; ends with 1 if a test failed.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";

const CHECKOUT = join(fileURLToPath(import.meta.url), "../..");

const { values, positionals } = parseArgs({
  options: {
    runs: { type: "string", default: "10" },
    loops: { type: "string", default: String(availableParallelism()) },
  },
  allowPositionals: true,
});
const wanted = Number(values.runs);
const loops = Number(values.loops);
if (!Number.isInteger(wanted) || wanted < 1 || !Number.isInteger(loops) || loops < 0) {
  console.error("--runs is a number from 1, --loops one from 0.");
  process.exit(2);
}

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];

// Threads and no processes: they end with this one, however it ends.
for (let loop = 0; loop < loops; loop++) new Worker("for (;;);", { eval: true });

const folder = mkdtempSync(join(tmpdir(), "eve-test-busy-"));
const runs = [];
let stopped = false;
try {
  for (let number = 1; number <= wanted; number++) {
    if (stopped) break;
    const run = await suite(join(folder, `${number}.json`));
    runs.push(run);
    console.log(
      `run ${number} of ${wanted}: ${run.passed} passed, ${run.failed} failed, ${run.skipped} skipped, ${run.seconds} s`,
    );
    for (const failure of run.failures) console.log(`  ${failure}`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
const failed = runs.filter((run) => run.failed > 0).length;
console.log(
  JSON.stringify({
    runs: runs.length,
    failed_runs: failed,
    loops,
    cores: availableParallelism(),
    results: runs,
  }),
);
process.exit(failed === 0 && !stopped ? 0 : 1);

/** Runs the suite once; its own output goes where this script's errors go. */
async function suite(report) {
  const started = performance.now();
  const child = spawn(process.execPath, [
    join(CHECKOUT, "local/test.mjs"),
    "--reporter=./tests/harness/progress.ts",
    "--reporter=json",
    `--outputFile.json=${report}`,
    ...positionals,
  ], { stdio: ["ignore", 2, 2] });
  const stop = () => {
    stopped = true;
    child.kill("SIGTERM");
  };
  for (const signal of SIGNALS) process.once(signal, stop);
  const code = await new Promise((resolve) => child.on("exit", (code, signal) => resolve(code ?? signal)));
  for (const signal of SIGNALS) process.off(signal, stop);
  const seconds = Math.round((performance.now() - started) / 1_000);
  const failures = [];
  let passed = 0;
  let skipped = 0;
  try {
    const result = JSON.parse(readFileSync(report, "utf8"));
    passed = result.numPassedTests;
    skipped = result.numPendingTests + result.numTodoTests;
    for (const file of result.testResults) {
      const name = relative(CHECKOUT, file.name);
      const tests = file.assertionResults.filter((test) => test.status === "failed");
      for (const test of tests) failures.push(`${name} > ${test.fullName}`);
      if (file.status === "failed" && tests.length === 0) failures.push(name);
    }
  } catch {
    failures.push("the suite wrote no report");
  }
  if (code !== 0 && failures.length === 0) failures.push(`the suite ended with ${code}`);
  return { passed, failed: failures.length, skipped, seconds, failures };
}
