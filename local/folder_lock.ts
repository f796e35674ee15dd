/**
 * One process at a time in a folder. The lock is the operating system's own on an open file: it goes when its holder
 * goes, even by kill -9, so there is no such thing as a stale one. What the file says is for people to read.
 */
export interface FolderLock {
  release(): void;
}

const LOCK_FILE = "lock";

/** Takes the folder, or answers undefined when another process has it. `note` is what {@link lockNote} answers then. */
export async function lockFolder(folder: string, note = `pid ${Deno.pid}`): Promise<FolderLock | undefined> {
  const file = await Deno.open(`${folder}/${LOCK_FILE}`, { create: true, read: true, write: true });
  if (!await file.tryLock(true)) {
    file.close();
    return undefined;
  }
  await file.truncate(0);
  await file.write(new TextEncoder().encode(`${note}\n`));
  return { release: () => file.close() };
}

/** What the holder of the lock wrote about itself; empty when there is nothing to read. */
export async function lockNote(folder: string): Promise<string> {
  return (await Deno.readTextFile(`${folder}/${LOCK_FILE}`).catch(() => "")).trim();
}
