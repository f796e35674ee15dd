import { defineConfig } from "vitest/config";
import { PATIENCE_MS } from "./tests/harness/patience.ts";
import LongestFirst from "./tests/harness/sequencer.ts";

/** A folder of tests, with what it needs running beside it. */
function project(name: string, include: string[], extra: Record<string, unknown> = {}) {
  return {
    extends: true,
    test: { name, include: include.map((folder) => `${folder}/**/*.test.ts`), ...extra },
  } as const;
}

/** One database server for the whole run, started only when a test of the project runs. */
const DATABASE = { globalSetup: ["tests/harness/database_server.ts"] };

/** The console's packages, and files of a migrated server to begin stacks with. */
const STACKS = { globalSetup: ["tests/harness/console_packages.ts", "tests/harness/cluster_template.ts"] };

/** Long enough for the longest test, half a minute alone, on a machine with twenty times its work to do. */
const HANGS_AFTER_MS = 900_000;

export default defineConfig({
  test: {
    // Forked processes: a test that breaks its process breaks nothing else, and they work inside Deno.
    pool: "forks",
    // Two cores are what CI has; of four files at a time two wait for a clock, a process or the network.
    maxWorkers: 4,
    sequence: { sequencer: LongestFirst },
    // What a failing test printed helps; the rest hides it.
    silent: "passed-only",
    reporters: ["./tests/harness/progress.ts"],
    // Ends a test that hangs, and is no bound that one could meet: a busy machine is slower by any factor.
    testTimeout: HANGS_AFTER_MS,
    hookTimeout: HANGS_AFTER_MS,
    expect: { poll: { timeout: PATIENCE_MS } },
    // Rough edges of timing show as failures, never as passes on a second try.
    retry: 0,
    projects: [
      // They leave nothing behind, so a process runs one file after the other and reads what they import once: half the work.
      project("unit", ["tests/unit", "tests/emulator", "tests/observability/unit", "tests/fuzz"], {
        isolate: false,
      }),
      project("db", [
        "tests/db",
        "tests/graph",
        "tests/deploy",
        "tests/maintenance",
        "tests/observability/db",
      ], DATABASE),
      // Stores of files, real ones, without a stack.
      project("storage", ["tests/storage"]),
      // Whole stacks: each has a database server of its own.
      project("stack", [
        "tests/e2e",
        "tests/endpoints",
        "tests/security",
        "tests/local",
        "tests/docs",
        "tests/examples",
        "tests/faults",
        "tests/cli",
        "tests/console",
        "tests/observability/stack",
      ], STACKS),
    ],
  },
});
