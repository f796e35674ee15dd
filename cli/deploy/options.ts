/** What the user may say on the command line of `npm run deploy`. */
import { parseArgs } from "node:util";
import { InstallError } from "../install/error.ts";
import { ALL_PARTS, type Part, readParts } from "../install/parts.ts";
import { DeployError } from "./deploy_error.ts";

export interface DeployOptions {
  /** The project to deploy to; without it, the one that `supabase link` remembered. */
  projectRef?: string;
  /** A file of NAME=value lines that become the secrets of the project's functions. */
  secretsFile?: string;
  /** Where to reach the database, without a password, where the CLI must not derive it from the project. */
  dbUrl?: string;
  /** Which parts' functions are deployed; undefined: all there are. */
  parts?: Part[];
  /** Leaves the database as it is: to put older functions back over a newer schema. */
  functionsOnly: boolean;
  dryRun: boolean;
  yes: boolean;
  help: boolean;
}

export const USAGE = `Deploys the gateway to a Supabase project: migrations, then secrets, then functions.

  npm run deploy -- [options]

  --project-ref REF     the project (default: the linked one)
  --secrets-file FILE   secrets for the functions, one NAME=value a line
  --db-url URL          reach the database here instead of through the project ref; its password goes into
                        the variable PGPASSWORD, never into the URL
  --parts a,b           the gateway and these parts alone: ${ALL_PARTS.slice(1).join(", ")} (default: all)
  --functions-only      leave the database as it is (to roll back functions)
  --dry-run             say what would be done, and stop
  --yes                 do not ask before doing it
  --help                this text

Needs an access token: run "npx supabase login" once, or set SUPABASE_ACCESS_TOKEN.
The whole story, from an empty project to a first call, is in docs/deploy.md.`;

/** Supabase makes project refs of twenty lower-case letters. */
const PROJECT_REF = /^[a-z]{20}$/;

/** Reads the arguments after the script's name. Throws DeployError for anything it does not know. */
export function readOptions(args: string[]): DeployOptions {
  const { values } = parse(args);
  const options: DeployOptions = {
    projectRef: values["project-ref"],
    secretsFile: values["secrets-file"],
    dbUrl: values["db-url"],
    parts: values.parts === undefined ? undefined : partsIn(values.parts),
    functionsOnly: values["functions-only"] ?? false,
    dryRun: values["dry-run"] ?? false,
    yes: values.yes ?? false,
    help: values.help ?? false,
  };
  if (options.projectRef !== undefined && !PROJECT_REF.test(options.projectRef)) {
    throw new DeployError(
      `"${options.projectRef}" is not a project ref: that is the 20 lower-case letters in the project's address, https://supabase.com/dashboard/project/<ref>.`,
    );
  }
  if (options.secretsFile === "") throw new DeployError("--secrets-file needs the name of a file.");
  if (options.dbUrl !== undefined) options.dbUrl = withoutPlaceholder(checkDbUrl(options.dbUrl));
  return options;
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: false,
      options: {
        "project-ref": { type: "string" },
        "secrets-file": { type: "string" },
        "db-url": { type: "string" },
        parts: { type: "string" },
        "functions-only": { type: "boolean" },
        "dry-run": { type: "boolean" },
        yes: { type: "boolean", short: "y" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new DeployError(`${reason}\nSee npm run deploy -- --help.`);
  }
}

function partsIn(text: string): Part[] {
  try {
    return readParts(text);
  } catch (error) {
    if (!(error instanceof InstallError)) throw error;
    throw new DeployError(error.message);
  }
}

/** The dashboard shows connection strings with this in the password's place. */
const PASSWORD_PLACEHOLDER = ":[YOUR-PASSWORD]@";

function withoutPlaceholder(url: string): string {
  return url.replace(PASSWORD_PLACEHOLDER, "@");
}

/** Other users of the machine can read a command line, so a password in it is refused. The URL is not repeated. */
function checkDbUrl(url: string): string {
  let parsed: URL;
  try {
    parsed = new URL(withoutPlaceholder(url));
  } catch {
    throw new DeployError(
      "--db-url is not a URL: copy the session pooler's connection string from the dashboard (Connect), postgresql://...",
    );
  }
  if (!["postgres:", "postgresql:"].includes(parsed.protocol)) {
    throw new DeployError("--db-url must begin with postgresql://.");
  }
  if (parsed.password !== "" || parsed.searchParams.has("password")) {
    throw new DeployError(
      "--db-url has a password in it, where other users of this machine can read it: leave it out and put it into the variable PGPASSWORD.",
    );
  }
  return url;
}
