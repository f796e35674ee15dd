import { forgetSecret, keepSecret, storedSecretsFile } from "../../../local/stored_secrets.ts";
import { isReservedName } from "../../../shared/runtime/secrets.ts";
import type { KeyState } from "../../../shared/database/reading.ts";
import { secretSourceOf } from "../../../shared/contract/secret_source.ts";
import type { Command, CommandDependencies } from "../command.ts";
import { type Connection, isLoopback } from "../connection.ts";
import { CliFailure, misuse } from "../failure.ts";
import { callFunction, refused } from "../function_call.ts";
import { answered } from "../rows.ts";

/** No provider's key has anything else in it; a quote or a blank is a slip in copying. */
const SECRET = /^[\x21\x23-\x26\x28-\x5b\x5d-\x7e]{8,4096}$/;
/** As Supabase makes addresses of projects. */
const PROJECT_URL = /^https:\/\/([a-z]{20})\.supabase\.co$/;

export const keySetCommand: Command = {
  name: "keys set",
  summary: "set the secret of a key, under the name in its row",
  about:
    `Asks for the secret, or reads it from the standard input: it is never an argument, which the shell would keep.
A key that is kept in the database gets another one there, once Google has accepted it.
The local stack keeps it in its folder and uses it from its next start on. On a hosted project the Supabase CLI sets it
(\`supabase secrets set\`), for which it has to be logged in. A key that upstream rejected is used again by itself once its
secret is another one.`,
  arguments: ["ALIAS"],
  options: {},
  examples: ["keys set main"],
  async run(given, around) {
    const connection = around.connect();
    const key = await theKey(connection, given.arguments[0]!);
    const called = key.alias ?? key.id;
    const name = key.env_var_name;
    if (name !== null && secretSourceOf(name).kind === "stored") {
      return await storeKey(connection, key, around);
    }
    if (name === null) {
      throw new CliFailure(`The row of ${called} names no secret: set its env_var_name first.`);
    }
    if (secretSourceOf(name).kind === "stage") throw stagesKey(called);
    if (isReservedName(name)) {
      throw new CliFailure(
        `${name}, which the row of ${called} names, is reserved, and never taken for a key: name another in its env_var_name.`,
      );
    }
    const place = placeOf(connection, name);
    const secret = asKey(await around.secret(`Secret of ${called} (${name}), not shown: `));
    const text = place.kind === "local"
      ? keepLocally(place.folder, name, secret, around)
      : await setHosted(place.ref, name, secret, around);
    return {
      json: { key_alias: key.alias, env_var_name: name, set: place.kind },
      text: `${name}, the secret of ${called}, was set. ${text}` +
        staysOff(key, called),
    };
  },
};

/** @throws CliFailure for what cannot be a key */
export function asKey(secret: string): string {
  if (secret === "") throw misuse("No secret was given, and nothing was changed.");
  if (SECRET.test(secret)) return secret;
  throw misuse(
    "This is not a key: 8 characters at least, and no blanks, quotes or backslashes. Nothing was changed.",
  );
}

async function storeKey(connection: Connection, key: KeyState, { secret }: CommandDependencies) {
  const called = key.alias ?? key.id;
  const answer = await callFunction(connection, "admin/keys/change", {
    id: key.id,
    seen: { env_var_name: key.env_var_name },
    changes: {},
    api_key: asKey(await secret(`Key ${called}, not shown: `)),
  });
  if (answer.status !== 200) throw refused(answer, "The function admin");
  return {
    json: { key_alias: key.alias, env_var_name: answer.body.key.env_var_name, set: "database" },
    text: `The secret of ${called} was set, and is used from the next request on.${staysOff(key, called)}`,
  };
}

const staysOff = (key: KeyState, called: string) =>
  key.state === "off" && key.blocked_reason === null
    ? ` The key stays off, as it was switched off by hand: npm run eve -- keys enable ${called}`
    : "";

export const keyDeleteCommand: Command = {
  name: "keys delete",
  summary: "remove a key for good; the audit keeps what it did",
  about:
    `The next reservation takes another key; calls under way end as they would. The audit, the usage and the sums keep what
the key did, under its id. Its secret stays where it is, except on the local stack, where one that \`keys set\` has kept goes,
too. What a quota project used today stays counted while another key is of that project: to Google, a key that is added again
has used no less.`,
  arguments: ["ALIAS"],
  options: { yes: { help: "do it" } },
  examples: ["keys delete main --yes"],
  async run(given, { connect }) {
    const connection = connect();
    const key = await theKey(connection, given.arguments[0]!);
    const called = key.alias ?? key.id;
    const name = key.env_var_name;
    if (name !== null && secretSourceOf(name).kind === "stage") throw stagesKey(called);
    if (!given.switch("yes")) {
      throw misuse(
        `This removes the key ${called} for good; the audit and the usage keep what it did, under its id ${key.id}. Say it again with --yes, or use \`keys disable\`.`,
      );
    }
    const keys = await connection.reading.keys();
    answered(await connection.tables.from("google_ai_api_keys").delete().eq("id", key.id).select("id"));
    const shared = keys.some((other) => other.id !== key.id && other.env_var_name === name);
    return {
      json: { removed: key.alias, id: key.id, env_var_name: name },
      text: [
        `${called} was removed. The audit and the usage keep what it did, under its id ${key.id}.`,
        ...(name === null || shared
          ? []
          : secretSourceOf(name).kind === "stored"
          ? ["Its secret was removed with it."]
          : [whereItsSecretIs(connection, name)]),
      ].join("\n"),
    };
  },
};

export async function theKey({ reading }: Connection, alias: string): Promise<KeyState> {
  const key = (await reading.keys()).find((one) => one.alias === alias || one.id === alias);
  if (key === undefined) throw new CliFailure(`There is no key named ${alias}. See \`keys list\`.`);
  return key;
}

const stagesKey = (called: string) =>
  new CliFailure(
    `${called} is the key of a stage: it is set and removed with the stage, in the console. See npm run eve -- providers list.`,
  );

/** Where secrets are set. @throws CliFailure that says what to do where that is not known */
function placeOf(
  { url, folder }: Connection,
  name: string,
): { kind: "local"; folder: string } | { kind: "hosted"; ref: string } {
  if (folder !== undefined) return { kind: "local", folder };
  if (isLoopback(url)) {
    throw new CliFailure(
      `Which folder the stack at ${url} has is not known here. Unset SUPABASE_URL and SUPABASE_SECRET_KEY and say it again, or start the stack with ${name}=...`,
    );
  }
  const ref = PROJECT_URL.exec(url)?.[1];
  if (ref !== undefined) return { kind: "hosted", ref };
  throw new CliFailure(`Which project ${url} is cannot be told from its address. ${byHand(name, "REF")}`);
}

function keepLocally(
  folder: string,
  name: string,
  secret: string,
  { variable }: CommandDependencies,
): string {
  keepSecret(folder, name, secret);
  const overridden = variable(name) === undefined
    ? ""
    : ` ${name} is set in this shell, too: unset it, since the environment goes before.`;
  const google = name === "GOOGLE_API_KEY" ? " It then asks Google, not the emulator." : "";
  return `It is in ${
    storedSecretsFile(folder)
  }, and the local stack uses it from its next start on: end it with Ctrl-C, then npm start.${google}${overridden}`;
}

async function setHosted(
  ref: string,
  name: string,
  secret: string,
  { supabase }: CommandDependencies,
): Promise<string> {
  const file = await Deno.makeTempFile({ prefix: "eve-secret-" });
  try {
    // Through a file that its owner alone may read: arguments are in everybody's list of processes.
    await Deno.chmod(file, 0o600);
    await Deno.writeTextFile(file, `${name}='${secret}'\n`);
    const { success, stderr } = await supabase([secret])([
      "secrets",
      "set",
      `--env-file=${file}`,
      `--remote=${ref}`,
      "--yes",
    ]);
    if (!success) throw new Error(stderr.trim().split("\n").at(-1) ?? "");
  } catch (error) {
    const why = error instanceof Deno.errors.NotFound
      ? "it is not installed: npm ci"
      : error instanceof Error
      ? error.message
      : String(error);
    throw new CliFailure(`The Supabase CLI did not set it (${why}). ${byHand(name, ref)}`);
  } finally {
    await Deno.remove(file).catch(() => {});
  }
  return "The functions have it within seconds, and the next request that finds no key uses it.";
}

/** What to run so that the secret is in no shell's history. */
function byHand(name: string, ref: string): string {
  return `Log in with npx supabase login and say it again, or run: ` +
    `read -rs KEY && (umask 077 && echo "${name}=$KEY" > secret.env) && npx supabase secrets set --env-file secret.env --remote=${ref}; rm -f secret.env. ` +
    `Or set ${name} in the dashboard: Edge Functions, Secrets.`;
}

function whereItsSecretIs({ url, folder }: Connection, name: string): string {
  if (folder !== undefined && forgetSecret(folder, name)) {
    return `Its secret ${name}, which \`keys set\` had kept, was removed, too.`;
  }
  return isLoopback(url)
    ? `Its secret ${name} is wherever the stack was given it: remove it there.`
    : `Its secret ${name} is still on the project: npx supabase secrets unset ${name} --remote=${
      PROJECT_URL.exec(url)?.[1] ?? "REF"
    }`;
}
