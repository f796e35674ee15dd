import { afterAll, afterEach, beforeAll } from "vitest";
import { applyMigrations } from "../../local/database.ts";
import { cloneDatabase, databaseBefore, type TestDatabase } from "./database.ts";

/**
 * Databases as somebody has them who made tables by hand, for the tests of one file: with the migrations before a version. Each test has
 * one at a time; it goes with its test.
 */
export function tablesByHand(version: string) {
  let before: TestDatabase;
  let db: TestDatabase | undefined;
  beforeAll(async () => {
    before = await databaseBefore(version);
  });
  afterAll(() => before?.drop());
  afterEach(async () => {
    await db?.drop();
    db = undefined;
  });
  async function made(byHand: string): Promise<TestDatabase> {
    db = await cloneDatabase(before);
    await db.sql.unsafe(byHand).simple();
    return db;
  }
  return {
    made,
    /** The same with all migrations over it. */
    async adopted(byHand: string): Promise<TestDatabase> {
      const db = await made(byHand);
      await applyMigrations(db.url);
      return db;
    },
    /** The test's. */
    current: () => db!,
  };
}
