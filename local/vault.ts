/** The local project's URL and secret key in Vault, where the schedule looks for them. */
import postgres from "postgres";

/** Done at every start, since the port may be another one. Without the migration that schedules, there is nothing to do. */
export async function connectSchedule(databaseUrl: string, url: string, secretKey: string): Promise<void> {
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
  try {
    const [found] = await sql`select to_regprocedure('public.eve_connect(text, text)') is not null as there`;
    if (found?.there) await sql`select public.eve_connect(${url}, ${secretKey})`;
  } finally {
    await sql.end();
  }
}
