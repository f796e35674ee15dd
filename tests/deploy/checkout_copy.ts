/** A throw-away copy of what a deployment reads, so that a test may add files and the CLI may remember a link. */
import { cp } from "node:fs/promises";
import { dirname } from "node:path";
import { CHECKOUT } from "../../local/paths.ts";
import { makeTestFolder } from "../harness/folders.ts";

const PARTS = [
  "deno.json",
  "package.json",
  "cli",
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

export async function copyCheckout(): Promise<CheckoutCopy> {
  const folder = await makeTestFolder();
  const root = `${folder.path}/checkout`;
  for (const part of PARTS) await cp(`${CHECKOUT}/${part}`, `${root}/${part}`, { recursive: true });
  await Deno.symlink(`${CHECKOUT}/node_modules`, `${root}/node_modules`);
  return {
    root,
    async write(path, text) {
      await Deno.mkdir(dirname(`${root}/${path}`), { recursive: true });
      await Deno.writeTextFile(`${root}/${path}`, text);
    },
    remove: () => folder.remove(),
  };
}
