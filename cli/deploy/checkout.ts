/** What this checkout has to deploy. */
import { DeployError } from "./deploy_error.ts";

/** The functions in `supabase/functions`, sorted. Each must have its section in `supabase/config.toml`. */
export async function functionsIn(root: string): Promise<string[]> {
  const folder = `${root}/supabase/functions`;
  const names: string[] = [];
  for await (const entry of Deno.readDir(folder)) {
    if (entry.isDirectory && await isFile(`${folder}/${entry.name}/index.ts`)) names.push(entry.name);
  }
  if (names.length === 0) throw new DeployError(`There is no function in ${folder}.`);
  const config = await Deno.readTextFile(`${root}/supabase/config.toml`);
  const sections = new Set([...config.matchAll(/^\[functions\.([\w-]+)\]/gm)].map((match) => match[1]));
  for (const name of names) {
    if (sections.has(name)) continue;
    throw new DeployError(
      `supabase/config.toml has no [functions.${name}]: it would be deployed without its import map, and behind a check of JSON Web Tokens that refuses the gateway's callers.`,
    );
  }
  return names.sort();
}

/** The migrations in `supabase/migrations`: version to file name. */
export async function migrationsIn(root: string): Promise<Map<string, string>> {
  const migrations = new Map<string, string>();
  for await (const entry of Deno.readDir(`${root}/supabase/migrations`)) {
    const version = entry.name.match(/^(\d+)_.*\.sql$/)?.[1];
    if (version !== undefined) migrations.set(version, entry.name);
  }
  return migrations;
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch {
    return false;
  }
}
