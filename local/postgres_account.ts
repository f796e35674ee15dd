/**
 * Who runs the database server. PostgreSQL refuses to run as root, so root runs it under an unprivileged account;
 * other users run it under their own.
 */
import { StartError } from "./start_error.ts";

/** An account given to `Deno.Command`. */
export interface Account {
  name: string;
  uid: number;
  gid: number;
}

/** Preferred first: packages of PostgreSQL create `postgres`; `nobody` is there even when accounts cannot be added. */
const CANDIDATES = ["postgres", "nobody"];

/**
 * The account the server has to run as, or undefined when the current user can run it.
 * As root: the existing `postgres`, else a new one, else `nobody`.
 */
export async function serverAccount(): Promise<Account | undefined> {
  if (Deno.build.os === "windows" || Deno.uid() !== 0) return undefined;
  const [preferred, fallback] = CANDIDATES as [string, string];
  const account = await accountOf(preferred) ?? await create(preferred) ?? await accountOf(fallback);
  if (account) return account;
  throw new StartError(
    "PostgreSQL does not run as root, and no other account could be found or made: run this as an ordinary user.",
  );
}

async function accountOf(name: string): Promise<Account | undefined> {
  const [uid, gid] = await Promise.all([run("id", ["-u", name]), run("id", ["-g", name])]);
  if (uid === undefined || gid === undefined || Number(uid) === 0) return undefined;
  return { name, uid: Number(uid), gid: Number(gid) };
}

async function create(name: string): Promise<Account | undefined> {
  await run("groupadd", ["--system", name]);
  await run("useradd", ["--system", "--gid", name, "--no-create-home", "--shell", "/bin/false", name]);
  return accountOf(name);
}

/** Standard output without the line end, or undefined if the program failed or does not exist. */
async function run(program: string, args: string[]): Promise<string | undefined> {
  try {
    const done = await new Deno.Command(program, { args, stdout: "piped", stderr: "null" }).output();
    return done.success ? new TextDecoder().decode(done.stdout).trim() : undefined;
  } catch {
    return undefined;
  }
}
