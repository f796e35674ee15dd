import { afterAll, beforeAll, expect, test } from "vitest";
import { databaseTypes, TYPES_FILE } from "../../local/types.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await cloneDatabase();
});
afterAll(() => database?.drop());

test("the committed types are those of the migrations", async () => {
  const committed = await Deno.readTextFile(TYPES_FILE);
  expect(
    await databaseTypes(database.url),
    "shared/database/database_types.ts is not what the migrations make: run `npm run types` and commit it",
  ).toBe(committed);
});
