/**
 * Of the migrations that a database has had, those from before the first release. They were rewritten for it: a database made
 * by them cannot be brought up to date, and applying the rest to it would leave half of each edition.
 */
export function unreleasedMigrations(applied: Iterable<string>): string[] {
  return [...applied].filter((version) => /^20261121\d{6}$/.test(version)).sort();
}
