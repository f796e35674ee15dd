/** Taking the gateway out of a repository. */
import { InstallError } from "./error.ts";
import { removeBlock } from "./config_toml.ts";
import { hashOf } from "./hash.ts";
import { type Lock, LOCK_FILE, lockText } from "./lock.ts";
import { CONFIG, type Repository } from "./repository.ts";

export interface Removal {
  remove: string[];
  config: string;
  /** Migrations stay where a database may have had them: without its files the Supabase CLI refuses that database. */
  keepsMigrations: boolean;
}

/** Throws InstallError for files that the user has changed, unless `changedToo`. */
export function removalOf(
  repository: Repository,
  lock: Lock,
  options: { changedToo: boolean; keepsMigrations: boolean },
): Removal {
  const changed = Object.entries(lock.files).filter(([path, sha256]) => {
    const text = repository.read(path);
    return text !== undefined && hashOf(text) !== sha256;
  }).map(([path]) => path);
  if (changed.length > 0 && !options.changedToo) {
    throw new InstallError(
      `You have changed these files of the gateway:\n${
        changed.map((path) => `  ${path}`).join("\n")
      }\nNothing was changed. Add --changed-too to delete them as well.`,
    );
  }
  const files = Object.keys(lock.files);
  const migrations = options.keepsMigrations ? [] : Object.values(lock.migrations).map(({ file }) => file);
  return {
    remove: [...files, ...migrations].filter((path) => repository.read(path) !== undefined),
    config: lock.config === ""
      ? repository.read(CONFIG)!
      : removeBlock(repository.read(CONFIG)!, lock.config),
    keepsMigrations: options.keepsMigrations,
  };
}

/** The lock goes last, so that a removal that is cut short can be repeated. */
export function carryOut(
  repository: Repository,
  lock: Lock,
  { remove, config, keepsMigrations }: Removal,
): void {
  repository.write(CONFIG, config);
  const left: Lock = { ...lock, config: "", functions: [] };
  repository.write(LOCK_FILE, lockText(left));
  for (const path of remove) repository.remove(path);
  if (keepsMigrations) repository.write(LOCK_FILE, lockText({ ...left, files: {} }));
  else repository.remove(LOCK_FILE);
}
