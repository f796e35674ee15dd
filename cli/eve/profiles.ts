/**
 * Projects that the command line knows by a name. The file holds where a project is and where its secret key is to be
 * found, which is the name of an environment variable or a file; never the key itself.
 */
import { z } from "zod";
import { FUNCTION_PREFIX } from "../install/prefix.ts";
import { CliFailure, misuse, unreachable } from "./failure.ts";

const profile = z.strictObject({
  url: z.url({ protocol: /^https?$/ }),
  /** What the functions' names begin with. */
  function_prefix: z.string().regex(
    FUNCTION_PREFIX,
    "must be as eve-gateway init --prefix took it, such as eve-",
  )
    .optional(),
  /** Name of the environment variable that holds the project's secret key. */
  secret_key_env: z.string().min(1).optional(),
  /** A file that holds it, readable by its owner alone. */
  secret_key_file: z.string().min(1).optional(),
}).refine(
  ({ secret_key_env, secret_key_file }) => (secret_key_env === undefined) !== (secret_key_file === undefined),
  "give either secret_key_env or secret_key_file",
);
export type Profile = z.output<typeof profile>;

const file = z.record(z.string(), profile);

/** Letters that need no quoting anywhere. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const VARIABLE_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
/** Supabase makes project refs of twenty lower-case letters. */
const PROJECT_REF = /^[a-z]{20}$/;
/** Rights that group or others have. */
const OTHERS = 0o077;

export type Variables = (name: string) => string | undefined;

/** `EVE_PROFILES`, or a file in the user's folder of configurations. */
export function profilesPath(variable: Variables): string {
  const named = variable("EVE_PROFILES");
  if (named) return named;
  const folder = variable("XDG_CONFIG_HOME") || (variable("HOME") && `${variable("HOME")}/.config`);
  if (!folder) {
    throw new CliFailure("There is no folder for profiles: set HOME, or EVE_PROFILES to the file's name.");
  }
  return `${folder}/eve-gateway/profiles.json`;
}

/** All profiles by name; none when there is no file yet. @throws CliFailure for a file that cannot be understood */
export function readProfiles(path: string): Map<string, Profile> {
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return new Map();
    throw new CliFailure(`${path} cannot be read: ${error instanceof Error ? error.message : error}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new CliFailure(`${path} is not JSON. Correct it, or remove it and add the profiles again.`);
  }
  const read = file.safeParse(value);
  if (read.success) return new Map(Object.entries(read.data));
  const [issue] = read.error.issues;
  throw new CliFailure(`${path}, ${issue?.path.join(".")}: ${issue?.message}. Correct it there.`);
}

export function writeProfiles(path: string, profiles: ReadonlyMap<string, Profile>): void {
  Deno.mkdirSync(path.replace(/\/[^/]*$/, "") || ".", { recursive: true, mode: 0o700 });
  const sorted = Object.fromEntries([...profiles].sort(([a], [b]) => a.localeCompare(b)));
  // Under another name first: a reader never sees half a file.
  Deno.writeTextFileSync(`${path}.new`, `${JSON.stringify(sorted, undefined, 2)}\n`, { mode: 0o600 });
  Deno.renameSync(`${path}.new`, path);
}

/** What `profiles add` was given, checked. @throws CliFailure with exit code 2 */
export function newProfile(
  name: string,
  given: { url?: string; projectRef?: string; keyEnv?: string; keyFile?: string; prefix?: string },
): Profile {
  if (!NAME.test(name)) {
    throw misuse("A profile's name has 1 to 63 letters, digits, dots, dashes or underscores.");
  }
  if ((given.url === undefined) === (given.projectRef === undefined)) {
    throw misuse("Give either --url or --project-ref.");
  }
  if (given.projectRef !== undefined && !PROJECT_REF.test(given.projectRef)) {
    throw misuse("--project-ref is the twenty lower-case letters in the project's address.");
  }
  if ((given.keyEnv === undefined) === (given.keyFile === undefined)) {
    throw misuse(
      "Give either --key-env, a variable's name, or --key-file. The key itself is never given here.",
    );
  }
  if (given.keyEnv !== undefined && !VARIABLE_NAME.test(given.keyEnv)) {
    throw misuse("--key-env must be the name of an environment variable. Never give the key itself here.");
  }
  const url = (given.url ?? `https://${given.projectRef}.supabase.co`).replace(/\/+$/, "");
  const read = profile.safeParse({
    url,
    function_prefix: given.prefix && readFunctionPrefix(given.prefix),
    secret_key_env: given.keyEnv,
    secret_key_file: given.keyFile,
  });
  if (read.success) return read.data;
  throw misuse("--url is not a URL. It looks like https://<ref>.supabase.co.");
}

/** @throws CliFailure with exit code 2 for what no function's name can begin with */
export function readFunctionPrefix(given = ""): string {
  if (FUNCTION_PREFIX.test(given)) return given;
  throw misuse(
    "A prefix of functions' names is a lower-case letter, up to 19 letters and digits, and a dash, such as eve-.",
  );
}

/** The secret key that a profile points to. @throws CliFailure that says how to provide it, and never shows it */
export function secretKeyOf(
  name: string,
  { secret_key_env, secret_key_file }: Profile,
  variable: Variables,
): string {
  if (secret_key_env !== undefined) {
    const key = variable(secret_key_env)?.trim();
    if (key) return key;
    throw unreachable(
      `The profile ${name} takes its secret key from the variable ${secret_key_env}, which is not set. Set it, for example with: read -rs ${secret_key_env} && export ${secret_key_env}`,
    );
  }
  const path = secret_key_file!.replace(/^~(?=\/)/, variable("HOME") ?? "~");
  let key: string;
  try {
    const { mode } = Deno.statSync(path);
    if (mode !== null && (mode & OTHERS) !== 0) {
      throw unreachable(`${path} can be read by others than you: run chmod 600 ${path}`);
    }
    key = Deno.readTextFileSync(path).trim();
  } catch (error) {
    if (error instanceof CliFailure) throw error;
    throw unreachable(
      `The profile ${name} takes its secret key from ${path}, which cannot be read: ${
        error instanceof Deno.errors.NotFound ? "it is not there" : "no right to it"
      }. Put the project's secret key there, readable by you alone.`,
    );
  }
  if (key === "") throw unreachable(`${path} is empty: put the secret key of the profile ${name} there.`);
  return key;
}
