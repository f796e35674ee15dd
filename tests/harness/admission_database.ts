import postgres from "postgres";
import { afterAll, beforeEach } from "vitest";
import { clearLedger, freezeClock, type TestClock } from "./admission.ts";
import { cloneDatabase } from "./database.ts";

/**
 * A database whose clock stands until it is moved, for the tests of one file: `const { sql, clock } = await admissionDatabase();` at
 * the file's top. Before each test its ledger is emptied and it is noon again, unless the file has its own order.
 */
export async function admissionDatabase(
  { connections = 50, emptied = true }: { connections?: number; emptied?: boolean } = {},
): Promise<{ sql: postgres.Sql; clock: TestClock }> {
  const db = await cloneDatabase();
  const sql = postgres(db.url, { max: connections, onnotice: () => {} });
  afterAll(async () => {
    await sql.end({ timeout: 5 });
    await db.drop();
  });
  const clock = await freezeClock(sql);
  if (emptied) {
    beforeEach(async () => {
      await clearLedger(sql);
      await clock.set("2026-11-18T12:00:00Z");
    });
  }
  return { sql, clock };
}
