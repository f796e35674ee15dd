/** The user's repository: the folder that has `supabase/config.toml`. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { InstallError } from "./error.ts";

export const CONFIG = "supabase/config.toml";
export const MIGRATIONS = "supabase/migrations";

export interface Repository {
  root: string;
  /** A file's text, or undefined. Paths are from the root, with `/`. */
  read(path: string): string | undefined;
  /** Makes or replaces a file, and its folders. */
  write(path: string, text: string): void;
  /** Deletes a file, and the folders that are empty then, up to `supabase/functions` or `supabase/migrations`. */
  remove(path: string): void;
  /** Names of what is in a folder; none if there is no such folder. */
  list(folder: string): string[];
}

/** Throws InstallError if `root` has no Supabase project in it. */
export function openRepository(root: string): Repository {
  if (!existsSync(join(root, CONFIG))) {
    throw new InstallError(
      `There is no ${CONFIG} in ${root}. Run this in the root of your repository; "npx supabase init" makes that file where there is none yet.`,
    );
  }
  const at = (path: string) => join(root, ...path.split("/"));
  const list = (folder: string) => existsSync(at(folder)) ? readdirSync(at(folder)) : [];
  return {
    root,
    read: (path) => existsSync(at(path)) ? readFileSync(at(path), "utf8") : undefined,
    write(path, text) {
      mkdirSync(dirname(at(path)), { recursive: true });
      writeFileSync(at(path), text);
    },
    remove(path) {
      rmSync(at(path), { force: true });
      for (
        let folder = dirname(path);
        folder.split("/").length > 2 && list(folder).length === 0 && existsSync(at(folder));
        folder = dirname(folder)
      ) rmdirSync(at(folder));
    },
    list,
  };
}
