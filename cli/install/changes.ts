/** What a command is about to do to the repository: made as a whole first, shown, and only then carried out. */
import { InstallError } from "./error.ts";
import { addBlock, removeBlock, withoutStrayBlock } from "./config_toml.ts";
import { hashOf } from "./hash.ts";
import { type Lock, LOCK_FILE, lockText } from "./lock.ts";
import type { Part } from "./parts.ts";
import type { Payload } from "./payload.ts";
import { CONFIG, MIGRATIONS, type Repository } from "./repository.ts";
import { stampsAfter } from "./stamps.ts";
import { fateOf } from "./three_way.ts";

export interface Changes {
  /** Path to text. */
  write: Map<string, string>;
  remove: string[];
  /** Files that the user has changed and the new version does not: they stay as they are. */
  kept: string[];
  /** Lines added to config.toml, for showing. */
  config: string;
  lock: Lock;
}

export interface Wanted {
  payload: Payload;
  parts: Part[];
  prefix: string;
  now: Date;
  /** Files whose conflict is settled: the user's stays, or the version's comes. */
  settled: { mine: ReadonlySet<string>; theirs: ReadonlySet<string> };
}

/**
 * What makes the repository hold what is wanted. `before` is what it holds, undefined for nothing. Throws InstallError, before
 * anything is written, for files in the way or changed on both sides.
 */
export function changesTo(repository: Repository, before: Lock | undefined, wanted: Wanted): Changes {
  const { payload, parts, prefix } = wanted;
  const functions = payload.functions.map((name) => prefix + name);
  const migrations = migrationsFor(repository, before, payload, wanted.now);
  const { files, ...changes } = compare(repository, before, payload.files, wanted.settled);
  const config = repository.read(CONFIG)!;
  const cleared = clearedOf(config, before);
  const added = addBlock(cleared, functions);
  const write = new Map([...changes.write, ...migrations.write]);
  if (added.config !== config) write.set(CONFIG, added.config);
  return {
    write,
    remove: changes.remove,
    kept: changes.kept,
    config: added.config === config ? "" : added.block,
    lock: {
      version: payload.version,
      parts,
      prefix,
      functions,
      config: added.block,
      files,
      migrations: migrations.known,
    },
  };
}

function clearedOf(config: string, before: Lock | undefined): string {
  if (before?.unfinished) {
    // As it was written, the line breaks before it too: from the file alone nobody could tell which of them are the user's.
    if (before.config_next && config.includes(before.config_next)) {
      return removeBlock(config, before.config_next);
    }
    if (!config.includes(before.config || "\0")) return withoutStrayBlock(config);
  }
  return before === undefined || before.config === "" ? config : removeBlock(config, before.config);
}

/**
 * Carries the changes out. A lock that says "unfinished", with what the files were, comes first: from it the same command finishes
 * what was cut short.
 */
export function apply(
  repository: Repository,
  before: Lock | undefined,
  { write, remove, lock }: Changes,
): void {
  const draft: Lock = {
    ...lock,
    files: before?.files ?? {},
    config: before?.config ?? "",
    config_next: lock.config,
    unfinished: true,
  };
  repository.write(LOCK_FILE, lockText(draft));
  // config.toml last: the Supabase CLI reads no function before its files are whole.
  const ordered = [...write].sort(([a], [b]) => Number(a === CONFIG) - Number(b === CONFIG));
  for (const [path, text] of ordered) repository.write(path, text);
  for (const path of remove) repository.remove(path);
  repository.write(LOCK_FILE, lockText(lock));
}

function compare(
  repository: Repository,
  before: Lock | undefined,
  wanted: ReadonlyMap<string, string>,
  settled: Wanted["settled"],
) {
  const write = new Map<string, string>();
  const files: Record<string, string> = {};
  const [remove, kept, conflicts]: [string[], string[], string[]] = [[], [], []];
  for (const path of [...new Set([...Object.keys(before?.files ?? {}), ...wanted.keys()])].sort()) {
    const text = wanted.get(path);
    const there = repository.read(path);
    const base = before?.files[path];
    const theirs = text === undefined ? undefined : hashOf(text);
    const mine = there === undefined ? undefined : hashOf(there);
    if (theirs !== undefined) files[path] = theirs;
    let fate = fateOf({ base, mine, theirs });
    if (fate === "conflict" && settled.mine.has(path)) fate = "keep";
    if (fate === "conflict" && settled.theirs.has(path)) fate = theirs === undefined ? "delete" : "replace";
    if (fate === "conflict") conflicts.push(path);
    else if (fate === "create" || fate === "replace") write.set(path, text!);
    else if (fate === "delete") remove.push(path);
    else if (mine !== theirs) kept.push(path);
  }
  if (conflicts.length > 0) throw new InstallError(conflictText(conflicts, before));
  return { write, remove, kept, files };
}

function conflictText(conflicts: string[], before: Lock | undefined): string {
  const list = conflicts.slice(0, 20).map((path) => `  ${path}`).join("\n") +
    (conflicts.length > 20 ? `\n  and ${conflicts.length - 20} more` : "");
  if (before === undefined) {
    return `These files are in the way, and they are not the gateway's:\n${list}
Nothing was changed. If a function of yours is called so, choose a prefix for the gateway's (--prefix eve-).`;
  }
  return `You have changed these files, and so has the new version:\n${list}
Nothing was changed. For each, say whose is to stand: --keep FILE (yours) or --take FILE (the new version's; yours is then in git alone).`;
}

function migrationsFor(repository: Repository, before: Lock | undefined, payload: Payload, now: Date) {
  const known: Lock["migrations"] = { ...before?.migrations };
  const write = new Map<string, string>();
  const changed = payload.migrations.filter(({ name, sha256 }) =>
    known[name] !== undefined && known[name].sha256 !== sha256
  );
  if (changed.length > 0) {
    throw new InstallError(
      `This version has another text for ${
        changed[0]!.name
      }, which your repository has already: a database that has had the old one would miss the difference. Take a version that was released.`,
    );
  }
  const missing = Object.entries(known).filter(([, { file }]) => repository.read(file) === undefined);
  const texts = new Map(payload.migrations.map(({ name, text }) => [name, text]));
  if (before?.unfinished) {
    for (const [name, { file }] of missing) if (texts.has(name)) write.set(file, texts.get(name)!);
  }
  const lost = missing.map(([, migration]) => migration).filter(({ file }) => !write.has(file));
  if (lost.length > 0) {
    throw new InstallError(
      `${
        lost[0]!.file
      } is missing, and your database may have had it: take it back from git (git checkout -- ${
        lost[0]!.file
      }).`,
    );
  }
  const fresh = payload.migrations.filter(({ name }) => known[name] === undefined);
  const versions = repository.list(MIGRATIONS).flatMap((name) => name.match(/^(\d+)_.*\.sql$/)?.[1] ?? []);
  const stamps = stampsAfter(versions, fresh.length, now);
  for (const [index, { name, sha256, text }] of fresh.entries()) {
    const file = `${MIGRATIONS}/${stamps[index]}_eve_${name.replace(/^\d+_/, "")}`;
    known[name] = { file, sha256 };
    write.set(file, text);
  }
  return { known, write };
}
