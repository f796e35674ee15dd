/** A database of its own for a test file, with the platform baseline and the migrations in it. */
import postgres from "postgres";
import { inject } from "vitest";
import { applyMigrations } from "../../local/database.ts";
import { TEMPLATES } from "./database_server.ts";

export interface TestDatabase {
  name: string;
  /** Connects as `postgres`, who owns the database and everything the migrations made. */
  url: string;
  /** Connects as the superuser. */
  superuserUrl: string;
  /** A pool of connections as `postgres`. */
  sql: postgres.Sql;
  /** Closes the pool and removes the database, even if clients are still connected. */
  drop(): Promise<void>;
}

/**
 * Clones a template (about 50 ms). `platform` has the hosted baseline only, for tests of the migrations themselves; another
 * database, to which nobody is connected, may be a template as well. Call it in `beforeAll`, and `drop` in `afterAll`.
 */
export async function cloneDatabase(
  template: keyof typeof TEMPLATES | Pick<TestDatabase, "name"> = "migrated",
): Promise<TestDatabase> {
  const { port } = inject("databaseServer");
  const name = `test_${crypto.randomUUID().replaceAll("-", "")}`;
  const source = typeof template === "string" ? TEMPLATES[template] : template.name;
  const urlFor = (user: string, database: string) =>
    `postgresql://${user}:postgres@127.0.0.1:${port}/${database}`;
  await administer(urlFor("supabase_admin", "postgres"), async (admin) => {
    await admin.unsafe(
      // Its files are copied as they are: the other way writes all of them to the log as well.
      `create database ${name} template ${source} owner postgres strategy file_copy`,
    );
  });
  const url = urlFor("postgres", name);
  const sql = postgres(url, { onnotice: () => {} });
  const drop = async () => {
    await sql.end({ timeout: 5 });
    await administer(urlFor("supabase_admin", "postgres"), async (admin) => {
      await admin.unsafe(`drop database if exists ${name} with (force)`);
    });
  };
  return { name, url, superuserUrl: urlFor("supabase_admin", name), sql, drop };
}

/**
 * A template that has the migrations before a version: what adopts later tables is tried on clones of it, over tables made by hand,
 * in a tenth of the time that all migrations take. Drop it in `afterAll`.
 */
export async function databaseBefore(version: string): Promise<TestDatabase> {
  const made = await cloneDatabase("platform");
  await applyMigrations(made.url, undefined, version);
  // Nobody may be connected to what is cloned.
  await made.sql.end({ timeout: 5 });
  return made;
}

async function administer(url: string, run: (admin: postgres.Sql) => Promise<void>): Promise<void> {
  const admin = postgres(url, { max: 1, onnotice: () => {} });
  try {
    await run(admin);
  } finally {
    await admin.end();
  }
}
