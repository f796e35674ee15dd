/** Temporary folders of test runs. A run that is killed cannot tidy up; the next one does it in its place. */
import { statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { lockFolder } from "../../local/folder_lock.ts";
import { removeHomeElsewhere } from "../../local/postgres_place.ts";

const PREFIX = "eve-gateway-test-";

export interface TestFolder {
  path: string;
  remove(): Promise<void>;
}

/** Where Linux keeps files in memory. */
const IN_MEMORY = "/dev/shm";
/** Thrice what the databases of a whole run take at once, their logs of changes included. */
const ROOM_BYTES = 2 * 1024 ** 3;

/**
 * A new folder that any account may enter (the database server's may be another one).
 * @param options.inMemory for many small files, such as a database, that end with the test: in memory where there is plenty, which containers
 * often lack. A database is more than a thousand small files, and a disk's file system has a third of a test's work with them.
 */
export async function makeTestFolder(options: { inMemory?: boolean } = {}): Promise<TestFolder> {
  const path = await Deno.makeTempDir({
    prefix: PREFIX,
    dir: options.inMemory && await hasRoomInMemory() ? IN_MEMORY : undefined,
  });
  await Deno.chmod(path, 0o755);
  const lock = await lockFolder(path);
  return {
    path,
    async remove() {
      lock?.release();
      await Deno.remove(path, { recursive: true });
    },
  };
}

async function hasRoomInMemory(): Promise<boolean> {
  try {
    const { bavail, bsize } = await statfs(IN_MEMORY);
    return bavail * bsize >= ROOM_BYTES && Deno.systemMemoryInfo().available >= ROOM_BYTES;
  } catch {
    return false;
  }
}

/** A younger one may have been made by another run that has not locked it yet. */
const ABANDONED_AFTER_MS = 60_000;

/** Removes test folders whose run is over. */
export async function removeAbandonedTestFolders(): Promise<void> {
  for (const parent of [tmpdir(), IN_MEMORY]) await removeAbandonedIn(parent).catch(() => {});
}

async function removeAbandonedIn(parent: string): Promise<void> {
  for await (const entry of Deno.readDir(parent)) {
    if (!entry.isDirectory || !entry.name.startsWith(PREFIX)) continue;
    const path = `${parent}/${entry.name}`;
    try {
      const { birthtime, mtime } = await Deno.stat(path);
      if (Date.now() - Number(birthtime ?? mtime) < ABANDONED_AFTER_MS) continue;
      const lock = await lockFolder(path);
      if (!lock) continue;
      lock.release();
      for (const dataDir of [path, `${path}/data`]) await removeHomeElsewhere(dataDir);
      await Deno.remove(path, { recursive: true });
    } catch {
      // Somebody else's, or being removed by another run at this moment.
    }
  }
}
