/** `eve-gateway`: brings the gateway into a repository that has a Supabase project, keeps it up to date there, and takes it away. */
import { FUNCTION_PREFIX } from "./prefix.ts";
import process from "node:process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { apply, type Changes, changesTo } from "./changes.ts";
import { dropData } from "./database.ts";
import { describeChanges } from "./describe.ts";
import { examine } from "./doctor.ts";
import { InstallError } from "./error.ts";
import { type Lock, readLock } from "./lock.ts";
import { ALL_PARTS, readParts } from "./parts.ts";
import { type Payload, readPayload } from "./payload.ts";
import { carryOut, removalOf } from "./remove.ts";
import { openRepository } from "./repository.ts";

export const USAGE = `Brings EVE Gateway into a repository that has a Supabase project in it.

  npx eve-gateway init    [--parts jobs,chats] [--prefix eve-]
  npx eve-gateway update  [--parts jobs,chats] [--keep FILE] [--take FILE]
  npx eve-gateway doctor
  npx eve-gateway remove  [--drop-data] [--changed-too]

  --parts      which parts, separated by commas, beside the gateway itself:
               ${ALL_PARTS.filter((part) => part !== "gateway").join(", ")}, or all
  --prefix     comes before each function's name, where one of yours is called so
  --keep FILE  update: your version of this file stays (may be given again)
  --take FILE  update: the new version's comes (may be given again)
  --drop-data  remove: also what is in the database, whose address is in the
               variable DATABASE_URL; its rows are written to files first
  --changed-too  remove: also files that you have changed
  --dry-run    say what would be done, and stop
  --yes        do not ask before doing it
  --json       the outcome as JSON

Run it in the root of the repository. The pages on installing are in docs/install.md of the gateway's own repository.`;

export interface MainDependencies {
  /** The folder in which the command was given. */
  root: string;
  /** The package's own folder, with manifest.json. */
  payload: string;
  variable: (name: string) => string | undefined;
  say: (line: string) => void;
  /** What the user answers, undefined if nobody is there to ask. */
  ask: (question: string) => Promise<boolean | undefined>;
  now: () => Date;
}

type Values = ReturnType<typeof readArguments>["values"];

/** Runs a command. Throws InstallError with what is wrong and what to do. */
export async function main(args: string[], dependencies: MainDependencies): Promise<void> {
  const { command, values } = readArguments(args);
  if (values.help || command === undefined) return dependencies.say(USAGE);
  const say = values.json ? () => {} : dependencies.say;
  const commands: Record<string, (values: Values, given: MainDependencies) => Promise<unknown>> = {
    init,
    update,
    doctor,
    remove,
  };
  const run = commands[command];
  if (run === undefined) throw new InstallError(`There is no command "${command}".\n\n${USAGE}`);
  const outcome = await run(values, { ...dependencies, say });
  if (values.json) dependencies.say(JSON.stringify(outcome));
}

function readArguments(args: string[]) {
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: {
        parts: { type: "string" },
        prefix: { type: "string" },
        keep: { type: "string", multiple: true },
        take: { type: "string", multiple: true },
        "drop-data": { type: "boolean" },
        "changed-too": { type: "boolean" },
        "dry-run": { type: "boolean" },
        yes: { type: "boolean", short: "y" },
        json: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    });
    if (positionals.length > 1) throw new Error(`"${positionals[1]}" is one word too many`);
    return { command: positionals[0], values };
  } catch (error) {
    throw new InstallError(`${(error as Error).message}.\nSee npx eve-gateway --help.`);
  }
}

async function init(values: Values, given: MainDependencies) {
  const repository = openRepository(given.root);
  const before = readLock(given.root);
  if (before !== undefined && !before.unfinished && before.functions.length > 0) {
    throw new InstallError(
      `The gateway is here already (version ${before.version}): npx eve-gateway update brings another version or other parts.`,
    );
  }
  const prefix = values.prefix ?? before?.prefix ?? "";
  if (!FUNCTION_PREFIX.test(prefix)) {
    throw new InstallError(
      `"${prefix}" cannot be a prefix: it is up to 20 small letters and digits with a hyphen at the end, like eve-.`,
    );
  }
  const parts = readParts(values.parts ?? "");
  const payload = readPayload(given.payload, parts, prefix);
  // What is left of an earlier installation is its migrations, and those are the database's.
  const changes = changesTo(repository, before, {
    payload,
    parts,
    prefix,
    now: given.now(),
    settled: settledBy(values),
  });
  const done = await carry(changes, before, values, given);
  if (done) nextSteps(payload, prefix).forEach(given.say);
  return outcomeOf(changes, done);
}

async function update(values: Values, given: MainDependencies) {
  const repository = openRepository(given.root);
  const before = installed(given.root);
  const parts = values.parts === undefined ? before.parts : readParts(values.parts);
  if (values.prefix !== undefined && values.prefix !== before.prefix) {
    throw new InstallError(
      "The prefix of functions that are in use cannot be changed: remove the gateway and init it again.",
    );
  }
  const payload = readPayload(given.payload, parts, before.prefix);
  const changes = changesTo(repository, before, {
    payload,
    parts,
    prefix: before.prefix,
    now: given.now(),
    settled: settledBy(values),
  });
  if (changes.write.size === 0 && changes.remove.length === 0 && before.version === payload.version) {
    given.say(`Nothing to do: version ${payload.version} is here.`);
    return outcomeOf(changes, false);
  }
  const gone = before.functions.filter((name) => !changes.lock.functions.includes(name));
  const done = await carry(changes, before, values, given);
  if (done) {
    given.say("Now: npx supabase db push, and npx supabase functions deploy.");
    for (const name of gone) {
      given.say(`${name} is no longer part of it: npx supabase functions delete ${name}`);
    }
  }
  return outcomeOf(changes, done);
}

function doctor(_values: Values, given: MainDependencies) {
  const repository = openRepository(given.root);
  const lock = installed(given.root);
  const findings = examine(repository, lock);
  const marks = { ok: "ok     ", warning: "warning", error: "error  " };
  for (const { level, message } of findings) given.say(`${marks[level]} ${message}`);
  const { version } = readPayload(given.payload, ["gateway"], lock.prefix);
  if (version !== lock.version) {
    given.say(`This is version ${version} of the command: npx eve-gateway update brings it here.`);
  }
  if (findings.some(({ level }) => level === "error")) process.exitCode = 1;
  return Promise.resolve({ version: lock.version, parts: lock.parts, findings });
}

async function remove(values: Values, given: MainDependencies) {
  const { say } = given;
  const repository = openRepository(given.root);
  const lock = installed(given.root);
  const dropsData = values["drop-data"] === true;
  const url = given.variable("DATABASE_URL");
  if (dropsData && !url) {
    throw new InstallError(
      "--drop-data needs the database's address in the variable DATABASE_URL (in the dashboard: Connect, session pooler).",
    );
  }
  const removal = removalOf(repository, lock, {
    changedToo: values["changed-too"] === true,
    keepsMigrations: !dropsData,
  });
  say(`${removal.remove.length} files and the gateway's block in supabase/config.toml go.`);
  say(
    dropsData
      ? `In the database at ${
        placeOf(url!)
      }: everything that the gateway made goes, after its rows are written to files. Tables that it found there stay.`
      : "Its migrations and what is in the database stay (--drop-data takes them away too).",
  );
  if (values["dry-run"]) {
    say("Dry run: nothing was changed.");
    return { done: false, removed: removal.remove };
  }
  await confirm(values, given);
  let folder: string | undefined;
  if (dropsData) {
    folder = join(given.root, `eve-export-${given.now().toISOString().replace(/\D/g, "").slice(0, 14)}`);
    const text = (path: string) => {
      const file = join(given.payload, path);
      return existsSync(file) ? readFileSync(file, "utf8") : undefined;
    };
    await dropData({
      url: url!,
      migrations: lock.migrations,
      wayDown: (name) => text(`downgrades/${name}`),
      uninstall: text("uninstall.sql")!,
      folder,
      say,
    });
    if (!existsSync(folder)) folder = undefined;
  }
  carryOut(repository, lock, removal);
  say("Done. On the project, if they were deployed:");
  for (const name of lock.functions) say(`  npx supabase functions delete ${name}`);
  if (folder !== undefined) say(`The rows are in ${folder}.`);
  return { done: true, removed: removal.remove, export: folder };
}

function installed(root: string): Lock {
  const lock = readLock(root);
  if (lock === undefined) {
    throw new InstallError("The gateway is not in this repository: npx eve-gateway init brings it.");
  }
  return lock;
}

function settledBy(values: Values) {
  return { mine: new Set(values.keep ?? []), theirs: new Set(values.take ?? []) };
}

async function carry(
  changes: Changes,
  before: Lock | undefined,
  values: Values,
  given: MainDependencies,
): Promise<boolean> {
  describeChanges(changes, before).forEach(given.say);
  given.say("");
  if (values["dry-run"]) {
    given.say("Dry run: nothing was changed.");
    return false;
  }
  await confirm(values, given);
  apply(openRepository(given.root), before, changes);
  return true;
}

async function confirm(values: Values, { ask }: MainDependencies): Promise<void> {
  if (values.yes) return;
  const answer = await ask("Go on?");
  if (answer === undefined) throw new InstallError("Nobody is there to ask: add --yes. Nothing was changed.");
  if (!answer) throw new InstallError("Nothing was changed.");
}

function outcomeOf({ write, remove, kept, lock }: Changes, done: boolean) {
  const { version, parts, prefix, functions } = lock;
  return { done, version, parts, prefix, functions, written: [...write.keys()], removed: remove, kept };
}

function nextSteps({ functions }: Payload, prefix: string): string[] {
  const names = functions.map((name) => prefix + name).join(" ");
  return [
    "Done. Commit it, and then, on a linked project:",
    "  npx supabase db push",
    "  npx supabase secrets set GOOGLE_API_KEY=...          (a key of Google AI Studio)",
    `  npx supabase functions deploy ${names} --use-api`,
    `  curl -X POST "$SUPABASE_URL/functions/v1/${prefix}maintenance/connect" -H "apikey: $SUPABASE_SECRET_KEY"`,
    "The first call:",
    `  curl "$SUPABASE_URL/functions/v1/${prefix}llm-invoke" -H "apikey: $SUPABASE_SECRET_KEY" -H "content-type: application/json" -d '{"model":"gemma-4-31b-it","prompt":"Hello"}'`,
  ];
}

function placeOf(url: string): string {
  if (!URL.canParse(url)) {
    throw new InstallError(
      "DATABASE_URL is no address of a database (postgresql://USER:PASSWORD@HOST:5432/postgres).",
    );
  }
  const { host, pathname } = new URL(url);
  return `${host}${pathname}`;
}
