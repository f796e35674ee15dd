/** What a benchmark is asked for in its arguments, where it has no others. */
export interface BenchOptions {
  /** The last line is one JSON object with the figures; all others go to the errors. */
  json: boolean;
  /** A first impression, with fewer of everything. */
  quick: boolean;
}

/** Reads `--json` and `--quick`; ends the process at any other. */
export function benchOptions(args: readonly string[] = Deno.args): BenchOptions {
  const unknown = args.find((arg) => !/^--(json|quick)$/.test(arg));
  if (unknown) {
    console.error(`Unknown argument ${unknown}: --json and --quick are known.`);
    Deno.exit(2);
  }
  return { json: args.includes("--json"), quick: args.includes("--quick") };
}
