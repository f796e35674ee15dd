/** What becomes of one file when a new version comes: told from what it was, what it is now, and what it is to be. */
export type Fate =
  /** As it is to be, or changed by the user where the new version changes nothing. */
  | "keep"
  | "create"
  | "replace"
  | "delete"
  /** Changed on both sides, or in the way. */
  | "conflict";

/** Hashes, or undefined where there is no such file: as it came (`base`), in the repository (`mine`), in the new version (`theirs`). */
export function fateOf(
  { base, mine, theirs }: { base: string | undefined; mine: string | undefined; theirs: string | undefined },
): Fate {
  if (mine === theirs) return "keep";
  if (mine === base) return base === undefined ? "create" : theirs === undefined ? "delete" : "replace";
  return theirs === base ? "keep" : "conflict";
}
