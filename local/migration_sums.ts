/**
 * Whether a database was made by the migrations that are here. Its history has each as it was applied: in one piece by `npm start`, cut
 * into statements by the Supabase CLI, which leaves out white space and semicolons between them. So neither counts.
 */

/** Of the migrations in a database's history: version, and the sum of its text; null where the history has no text. */
export const SUMS_QUERY = `
  select m.version, encode(sha256(convert_to(translate(
    (
      select string_agg(s.text, '' order by s.place)
      from jsonb_array_elements_text(to_jsonb(m) -> 'statements') with ordinality s (text, place)
    ), E' \\t\\r\\n;', ''
  ), 'UTF8')), 'hex') as sum
  from supabase_migrations.schema_migrations m
  where jsonb_typeof(to_jsonb(m) -> 'statements') = 'array'
  order by m.version`;

export interface AppliedSum {
  version: string;
  sum: string | null;
}

export interface MigrationFile {
  version: string;
  /** Its file's name. */
  file: string;
  path: string;
}

/** The sum of a migration's text, as SUMS_QUERY has it. */
export async function sumOf(text: string): Promise<string> {
  const bytes = new TextEncoder().encode(text.replace(/[ \t\r\n;]/g, ""));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** Names of the files whose migrations the database has had with another text, in their order. */
export async function changedMigrations(
  files: readonly MigrationFile[],
  applied: readonly AppliedSum[],
): Promise<string[]> {
  const sums = new Map(applied.map(({ version, sum }) => [version, sum]));
  const changed: string[] = [];
  for (const { version, file, path } of files) {
    const sum = sums.get(version);
    if (sum && sum !== await sumOf(await Deno.readTextFile(path))) changed.push(file);
  }
  return changed.sort();
}

/** A few of them for a message, and how many more there are. */
export function fewOf(files: readonly string[], most = 3): string {
  const rest = files.length - most;
  return rest > 0 ? `${files.slice(0, most).join(", ")} and ${rest} more` : files.join(", ");
}
