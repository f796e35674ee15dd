/** Versions of migrations: 14 digits of UTC. The Supabase CLI refuses a file that is older than what the database has. */
const SECOND = 1_000;

/** `count` versions after the newest of these and, where they fit, not after now: what the user makes next is then newer. */
export function stampsAfter(existing: Iterable<string>, count: number, now: Date): string[] {
  const newest = [...existing].filter((version) => /^\d{14}$/.test(version)).sort().at(-1);
  const earliest = newest === undefined ? 0 : timeOf(newest) + SECOND;
  const first = Math.max(earliest, Math.floor(now.getTime() / SECOND) * SECOND - count * SECOND);
  return Array.from({ length: count }, (_, index) => stampOf(first + index * SECOND));
}

function timeOf(stamp: string): number {
  const [year, month, day, hour, minute, second] = stamp.match(/^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)$/)!
    .slice(1)
    .map(Number);
  // Somebody may have counted by hand (20250101000099): such a one still has a next second.
  return Date.UTC(year!, month! - 1, day!, hour!, minute!, second!);
}

function stampOf(time: number): string {
  return new Date(time).toISOString().replace(/\D/g, "").slice(0, 14);
}
