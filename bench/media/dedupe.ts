import postgres from "postgres";
import { withStack } from "../with_stack.ts";

export interface Dedupe {
  uploads: number;
  files: number;
  /** Rows of the registry, and bodies that are kept: here in the database, as there is no store. */
  stored: number;
  bodies: number;
  /** What the counters say is used. */
  bytes_counted: number;
  /** Answers that said that the file is new. */
  answered_created: number;
  uploads_per_second: number;
}

const CALLERS = 20;

/** Sends so many files to `POST /v1/media`, each ten times, by 20 callers at once: they come round in turns. */
export async function dedupe(files: number, fileBytes: number): Promise<Dedupe> {
  const options = { schedule: false, env: { EVE_LEDGER_TRANSPORT: "direct" } };
  return await withStack(options, async (stack) => {
    const uploads = 10 * files;
    let next = 0;
    let created = 0;
    const began = performance.now();
    await Promise.all(Array.from({ length: CALLERS }, async () => {
      for (let upload = next++; upload < uploads; upload = next++) {
        const response = await fetch(`${stack.url}/functions/v1/api/v1/media`, {
          method: "POST",
          headers: { apikey: stack.keys.secret, "content-type": "application/octet-stream" },
          body: fileOf(upload % files, fileBytes),
        });
        const answer = await response.json();
        if (!response.ok) throw new Error(JSON.stringify(answer));
        if (answer.created) created++;
      }
    }));
    const seconds = (performance.now() - began) / 1_000;
    return {
      uploads,
      files,
      ...await counted(stack.databaseUrl),
      answered_created: created,
      uploads_per_second: Math.round(uploads / seconds),
    };
  });
}

/** The same bytes for the same number, and no others. */
function fileOf(number: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length).fill(255);
  new DataView(bytes.buffer).setUint32(0, number);
  return bytes;
}

async function counted(url: string): Promise<Pick<Dedupe, "stored" | "bodies" | "bytes_counted">> {
  const sql = postgres(url, { max: 1 });
  try {
    const [row] = await sql`
      select (select count(*) from public.media_objects)::integer as stored, (select count(*) from eve.media_spool)::integer as bodies,
        (select c.used_bytes from eve.media_counters c where c.scope = 'total')::float8 as bytes_counted`;
    return row as Pick<Dedupe, "stored" | "bodies" | "bytes_counted">;
  } finally {
    await sql.end();
  }
}
