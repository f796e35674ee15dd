/** What a command will do, in words and as a diff, before it is asked for. */
import type { Changes } from "./changes.ts";
import type { Lock } from "./lock.ts";
import { PARTS } from "./parts.ts";
import { MIGRATIONS } from "./repository.ts";

export function describeChanges(
  { write, remove, kept, config, lock }: Changes,
  before: Lock | undefined,
): string[] {
  const paths = [...write.keys()];
  const migrations = paths.filter((path) => path.startsWith(`${MIGRATIONS}/`));
  const code = paths.filter((path) => path.startsWith("supabase/functions/"));
  const lines = [
    before === undefined
      ? `EVE Gateway ${lock.version} comes into this repository:`
      : before.version === lock.version
      ? `EVE Gateway ${lock.version}:`
      : `EVE Gateway ${before.version} becomes ${lock.version}:`,
    "",
    ...lock.parts.map((part) => `  part ${part.padEnd(8)} ${PARTS[part].adds}`),
    "",
    `  supabase/functions    ${count(code.length, "file")} to write (${
      lock.functions.join(", ")
    }, _shared/eve)`,
  ];
  if (remove.length > 0) lines.push(`                        ${count(remove.length, "file")} to delete`);
  lines.push(
    migrations.length === 0
      ? "  supabase/migrations   nothing new"
      : `  supabase/migrations   ${count(migrations.length, "file")} to add, ${name(migrations[0]!)} to ${
        name(migrations.at(-1)!)
      }`,
  );
  if (config !== "") {
    lines.push(
      "  supabase/config.toml  at its end:",
      ...config.trim().split(/\r?\n/).map((line) => `    +${line === "" ? "" : ` ${line}`}`),
    );
  }
  for (const path of kept) lines.push(`  ${path} stays as you have it`);
  return lines;
}

function name(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
