/** A throw-away copy of what a deployment reads, so that a test may add files and the CLI may remember a link. */
import { cp } from "node:fs/promises";
import { dirname } from "node:path";
import { CHECKOUT } from "../../local/paths.ts";
import { makeTestFolder } from "../harness/folders.ts";

const PARTS = [
  "deno.json",
  "package.json",
  "cli",
  "local/migration_sums.ts",
  "local/unreleased_migrations.ts",
  "shared",
  "supabase/config.toml",
  "supabase/functions",
  "supabase/migrations",
];

export interface CheckoutCopy {
  root: string;
  write(path: string, text: string): Promise<void>;
  remove(): Promise<void>;
}

/** @param functions those that the copy has; each is a run of the CLI, which takes two seconds. All, if not given. */
export async function copyCheckout(functions?: readonly string[]): Promise<CheckoutCopy> {
  const folder = await makeTestFolder({ inMemory: true });
  const root = `${folder.path}/checkout`;
  for (const part of PARTS) await cp(`${CHECKOUT}/${part}`, `${root}/${part}`, { recursive: true });
  await Deno.symlink(`${CHECKOUT}/node_modules`, `${root}/node_modules`);
  if (functions) await keepOnly(functions, root);
  return {
    root,
    async write(path, text) {
      await Deno.mkdir(dirname(`${root}/${path}`), { recursive: true });
      await Deno.writeTextFile(`${root}/${path}`, text);
    },
    remove: () => folder.remove(),
  };
}

async function keepOnly(functions: readonly string[], root: string): Promise<void> {
  const config = await Deno.readTextFile(`${root}/supabase/config.toml`);
  const sections = config.split(/^(?=\[)/m).filter((section) => {
    const name = /^\[functions\.([\w-]+)\]/.exec(section)?.[1];
    return name === undefined || functions.includes(name);
  });
  await Deno.writeTextFile(`${root}/supabase/config.toml`, sections.join(""));
  for await (const { name, isDirectory } of Deno.readDir(`${root}/supabase/functions`)) {
    if (!isDirectory || functions.includes(name)) continue;
    await Deno.remove(`${root}/supabase/functions/${name}`, { recursive: true });
  }
}
