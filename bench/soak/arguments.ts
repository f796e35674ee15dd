/** What the soak is asked for on the command line. */
export interface SoakArguments {
  minutes: number;
  seed: number;
  json: boolean;
}

const DEFAULT_MINUTES = 10;
const LONGEST_MINUTES = 24 * 60;

/** Ends the process with what is wrong, if something is. `--name value` and `--name=value` are the same. */
export function soakArguments(args: readonly string[]): SoakArguments {
  const given = args.flatMap((arg) => arg.split(/=(.*)/s).filter((part) => part !== ""));
  const asked: SoakArguments = {
    minutes: DEFAULT_MINUTES,
    seed: Math.floor(Math.random() * 1_000_000),
    json: false,
  };
  for (let n = 0; n < given.length; n++) {
    const name = given[n];
    if (name === "--json") {
      asked.json = true;
      continue;
    }
    const value = Number(given[++n]);
    if (name === "--minutes" && value > 0 && value <= LONGEST_MINUTES) {
      asked.minutes = value;
    } else if (name === "--seed" && Number.isInteger(value)) asked.seed = value;
    else {
      console.error(
        `Not understood: ${
          args.join(" ")
        }. There are --minutes N (up to ${LONGEST_MINUTES}), --seed N and --json.`,
      );
      Deno.exit(2);
    }
  }
  return asked;
}
