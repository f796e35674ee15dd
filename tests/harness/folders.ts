/** Temporary folders of test runs. A run that is killed cannot tidy up; the next one does it in its place. */
import { tmpdir } from "node:os";
import { lockFolder } from "../../local/folder_lock.ts";
import { removeHomeElsewhere } from "../../local/postgres_place.ts";

const PREFIX = "eve-gateway-test-";

export interface TestFolder {
  path: string;
  remove(): Promise<void>;
}

/** A new folder that any account may enter (the database server's may be another one). */
export async function makeTestFolder(): Promise<TestFolder> {
  const path = await Deno.makeTempDir({ prefix: PREFIX });
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

/** A younger one may have been made by another run that has not locked it yet. */
const ABANDONED_AFTER_MS = 60_000;

/** Removes test folders whose run is over. */
export async function removeAbandonedTestFolders(): Promise<void> {
  const parent = tmpdir();
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
