/** `npm run check:hosted`: measures, on a real project, what could never be run where the gateway was made. See docs/hosted.md. */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { secretKeyOf } from "./deploy/connect_schedule.ts";
import { DeployError } from "./deploy/deploy_error.ts";
import { targetOf } from "./deploy/project.ts";
import { type RunCli, supabaseCli } from "./deploy/supabase_cli.ts";
import { safeForTerminal } from "./eve/terminal.ts";
import { measure } from "./hosted/measure.ts";
import { inWords, type Report, reportOf } from "./hosted/report.ts";

export const USAGE =
  `Measures a project on which the gateway is deployed, and writes a report without its name or keys.

  npm run check:hosted -- --project-ref REF [--prefix eve-] [--report FILE] [--json]

  --project-ref REF  the project; its secret key is asked for through the Supabase CLI, or taken from
                     SUPABASE_SECRET_KEY
  --url URL          the project's address, where it is not https://REF.supabase.co
  --prefix PREFIX    what stands before the functions' names
  --report FILE      where the report goes (default: eve-hosted-report.json, here)
  --json             the report alone, as one line of JSON`;

export interface CheckDependencies {
  cli: RunCli;
  variable: (name: string) => string | undefined;
  say: (line: string) => void;
  version: string;
  fetch?: typeof fetch;
  sleep?: (ms: number) => Promise<void>;
}

/** Runs the check. Throws DeployError with what is wrong and what to do. */
export async function checkHosted(
  args: string[],
  dependencies: CheckDependencies,
): Promise<Report | undefined> {
  const { cli, variable, say } = dependencies;
  const options = readOptions(args);
  if (options.help) {
    say(USAGE);
    return undefined;
  }
  const ref = options["project-ref"];
  const url = options.url?.replace(/\/+$/, "") ??
    (ref === undefined ? undefined : `https://${ref}.supabase.co`);
  if (url === undefined) throw new DeployError("Which project? Add --project-ref REF (or --url URL).");
  const secretKey = variable("SUPABASE_SECRET_KEY") ??
    (ref === undefined ? undefined : await secretKeyOf({ run: cli, target: targetOf({ projectRef: ref }) }));
  if (secretKey === undefined) {
    throw new DeployError(
      "The project's secret key is needed: log in with npx supabase login, or set SUPABASE_SECRET_KEY (Project Settings, API keys).",
    );
  }
  try {
    const measured = await measure({
      functions: `${url}/functions/v1/${options.prefix ?? ""}`,
      rest: `${url}/rest/v1`,
      secretKey,
      fetch: dependencies.fetch ?? fetch,
      now: () => performance.now(),
      newId: () => crypto.randomUUID(),
      sleep: dependencies.sleep ?? ((ms) => new Promise((resolve) => setTimeout(resolve, ms))),
      say: options.json ? () => {} : say,
    });
    return reportOf(measured, dependencies.version, new Date());
  } catch (error) {
    if (error instanceof DeployError) throw error;
    throw new DeployError(`The check was cut short: ${(error as Error).message}`);
  }
}

export function readOptions(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        "project-ref": { type: "string" },
        url: { type: "string" },
        prefix: { type: "string" },
        report: { type: "string" },
        json: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    }).values;
  } catch (error) {
    throw new DeployError(`${(error as Error).message}\nSee npm run check:hosted -- --help.`);
  }
}

if (import.meta.main) {
  const root = fileURLToPath(new URL("..", import.meta.url)).replace(/[/\\]$/, "");
  const say = (line: string) => console.log(safeForTerminal(line, false));
  try {
    const report = await checkHosted(Deno.args, {
      cli: supabaseCli(root),
      variable: (name) => Deno.env.get(name),
      say,
      version: JSON.parse(await Deno.readTextFile(`${root}/package.json`)).version,
    });
    if (report !== undefined) {
      const { json, report: file } = readOptions(Deno.args);
      if (json) say(JSON.stringify(report));
      else {
        say("");
        inWords(report).forEach(say);
        const path = file ?? `${Deno.env.get("INIT_CWD") ?? Deno.cwd()}/eve-hosted-report.json`;
        await Deno.writeTextFile(path, `${JSON.stringify(report, null, 2)}\n`);
        say(`\nThe report is in ${path}. It names neither the project nor a key.`);
      }
    }
  } catch (error) {
    console.error(safeForTerminal(error instanceof DeployError ? error.message : Deno.inspect(error), false));
    Deno.exitCode = 1;
  }
}
