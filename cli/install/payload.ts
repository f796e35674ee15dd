/**
 * What a version of the gateway brings into a repository, as the package carries it: a folder with `manifest.json` and the
 * files, already as they are to be in `supabase/` (but for a prefix of the functions' names).
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod/mini";
import { InstallError } from "./error.ts";
import { functionsOf, type Part } from "./parts.ts";

export const manifestSchema = z.object({
  version: z.string(),
  /** By function: its files and all that they import, as paths below `supabase/functions`. */
  functions: z.record(z.string(), z.array(z.string())),
  /** File names in order, with the SHA-256 of each. */
  migrations: z.array(z.object({ name: z.string(), sha256: z.string() })),
});

export type Manifest = z.infer<typeof manifestSchema>;

/** Where the shared code is, below `supabase/functions`. */
export const SHARED = "_shared/eve";

export interface Payload {
  version: string;
  /** The functions of these parts that this version has. */
  functions: string[];
  /** Path from the repository's root to text: functions and what they share. */
  files: Map<string, string>;
  /** In order. */
  migrations: { name: string; sha256: string; text: string }[];
}

/** Reads what these parts need. `prefix` comes before each function's name. */
export function readPayload(folder: string, parts: readonly Part[], prefix: string): Payload {
  const text = (path: string) => readFileSync(join(folder, path), "utf8");
  const manifest = z.safeParse(manifestSchema, JSON.parse(text("manifest.json")));
  if (!manifest.success) throw new InstallError(`The package in ${folder} is damaged: install it again.`);
  const { version, functions, migrations } = manifest.data;
  const chosen = functionsOf(parts).filter((name) => functions[name] !== undefined);
  const files = new Map<string, string>();
  for (const name of chosen) {
    for (const path of functions[name]!) {
      const target = path.startsWith(`${name}/`) ? `${prefix}${path}` : path;
      files.set(`supabase/functions/${target}`, renamed(path, text(`functions/${path}`), prefix));
    }
  }
  return {
    version,
    functions: chosen,
    files: new Map([...files].sort(([a], [b]) => a < b ? -1 : 1)),
    migrations: migrations.map((migration) => ({ ...migration, text: text(`migrations/${migration.name}`) })),
  };
}

/** The one file that says what the functions are called. */
const NAMES_FILE = `${SHARED}/runtime/function_names.ts`;

function renamed(path: string, text: string, prefix: string): string {
  if (prefix === "" || path !== NAMES_FILE) return text;
  return text.replace('FUNCTION_PREFIX = ""', `FUNCTION_PREFIX = "${prefix}"`);
}
