/** `eve.lock.json`, in the root of the user's repository: what of the gateway is in it, and what it was when it came. */
import { FUNCTION_PREFIX } from "./prefix.ts";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod/mini";
import { InstallError } from "./error.ts";
import { ALL_PARTS } from "./parts.ts";

export const LOCK_FILE = "eve.lock.json";

const sha256 = z.string().check(z.regex(/^[0-9a-f]{64}$/));
/** Below the repository, and nowhere else: the file may have been edited. */
const path = z.string().check(z.regex(/^supabase\/(functions|migrations)\/(?!.*\.\.(\/|$))[\w./-]+$/));

const lockSchema = z.object({
  version: z.string(),
  parts: z.array(z.enum(ALL_PARTS)),
  /** Comes before each function's name: `eve-` or nothing. */
  prefix: z.string().check(z.regex(FUNCTION_PREFIX)),
  /** The functions that are in config.toml. */
  functions: z.array(z.string()),
  /** What was added to supabase/config.toml, as it stands there. */
  config: z.string(),
  /** SHA-256 of each file as the version brought it. */
  files: z.record(path, sha256),
  /** The gateway's migration to the file it became, with the SHA-256 of its text. */
  migrations: z.record(z.string(), z.object({ file: path, sha256 })),
  /** What is to stand there in place of it, in a lock that is unfinished. */
  config_next: z.optional(z.string()),
  /** Somebody stopped it half-way: the files are of two versions, and the same command again finishes it. */
  unfinished: z.optional(z.literal(true)),
});

export type Lock = z.infer<typeof lockSchema>;

/** The lock, or undefined if the gateway is not in this repository. */
export function readLock(root: string): Lock | undefined {
  const file = join(root, LOCK_FILE);
  if (!existsSync(file)) return undefined;
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(file, "utf8"));
  } catch {
    throw new InstallError(
      `${LOCK_FILE} is not JSON (an unfinished merge?): put it in order, or take it back from git.`,
    );
  }
  const lock = z.safeParse(lockSchema, json);
  if (!lock.success) {
    const { path, message } = lock.error.issues[0]!;
    throw new InstallError(
      `${LOCK_FILE} is damaged at ${path.join(".") || "its top"} (${message}): take it back from git.`,
    );
  }
  return lock.data;
}

export function lockText(lock: Lock): string {
  return `${JSON.stringify(lock, null, 2)}\n`;
}
