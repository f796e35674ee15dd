/**
 * The playground's pictures: kept like what is typed there, while the tab is open. They are in IndexedDB, since session storage takes
 * texts alone and some 5 MB of them; a browser without it (a private window) keeps none.
 */
const DATABASE = "eve-playground";
const STORE = "pictures";
/** The tab's own, as session storage is. */
const TAB = "eve-playground-tab";
/** Nobody says when a tab is closed: what is older is some closed tab's. */
const KEPT_MS = 86_400_000;

interface Kept {
  at: number;
  files: File[];
}

/** @param mostBytes more is not kept */
export async function keepPictures(files: File[], mostBytes: number): Promise<void> {
  const fits = files.reduce((sum, { size }) => sum + size, 0) <= mostBytes;
  await inStore("readwrite", async (store) => {
    for (const tab of await answered(store.getAllKeys())) {
      const kept: Kept | undefined = await answered(store.get(tab));
      if (kept && kept.at < Date.now() - KEPT_MS) store.delete(tab);
    }
    if (fits && files.length > 0) store.put({ at: Date.now(), files } satisfies Kept, tabName());
    else store.delete(tabName());
  });
}

export async function readPictures(): Promise<File[]> {
  const kept = await inStore("readonly", (store) => answered<Kept | undefined>(store.get(tabName())));
  return kept?.files ?? [];
}

/** When somebody signs out: the next one is somebody else. */
export const dropPictures = () => inStore("readwrite", (store) => answered(store.clear()));

function tabName(): string {
  const known = sessionStorage.getItem(TAB);
  if (known !== null) return known;
  const made = crypto.randomUUID();
  sessionStorage.setItem(TAB, made);
  return made;
}

/** Undefined where the browser keeps nothing. */
async function inStore<Answer>(
  mode: IDBTransactionMode,
  run: (store: IDBObjectStore) => Promise<Answer>,
): Promise<Answer | undefined> {
  let database: IDBDatabase | undefined;
  try {
    const opening = indexedDB.open(DATABASE, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
    database = await answered(opening);
    const transaction = database.transaction(STORE, mode);
    const ended = new Promise<void>((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error);
    });
    ended.catch(() => {});
    const answer = await run(transaction.objectStore(STORE));
    await ended;
    return answer;
  } catch {
    return undefined;
  } finally {
    database?.close();
  }
}

function answered<Answer>(request: IDBRequest<Answer>): Promise<Answer> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
