/** What a connection of this function's own to the database costs, and how many the database has left. */
import postgres from "postgres";
import * as z from "zod";

const CONNECT_TIMEOUT_S = 5;

const counted = z.object({ most: z.coerce.number(), used: z.coerce.number() });

export interface DirectConnection {
  /** Milliseconds until the first answer, and of one question each afterwards. */
  connectMs: number;
  questionMs: number[];
  /** The server's `max_connections`, and how many of them are in use. */
  most: number;
  used: number;
}

/** Connects once, asks a few times and leaves. @throws what the driver throws */
export async function measureConnection(
  url: string,
  now: () => number,
  times: number,
): Promise<DirectConnection> {
  const sql = postgres(url, {
    max: 1,
    prepare: false,
    onnotice: () => {},
    connect_timeout: CONNECT_TIMEOUT_S,
  });
  try {
    const began = now();
    const [row] = await sql`
      select current_setting('max_connections') as most, count(*) as used from pg_catalog.pg_stat_activity
    `;
    const connectMs = now() - began;
    const questionMs: number[] = [];
    for (let time = 0; time < times; time++) {
      const asked = now();
      await sql`select 1`;
      questionMs.push(now() - asked);
    }
    return { connectMs, questionMs, ...counted.parse(row) };
  } finally {
    await sql.end({ timeout: 1 });
  }
}
