/** PostgreSQL 15 with the real pg_cron, as Debian packages them, in a folder of its own. */
import postgres from "postgres";
import { CHECKOUT } from "../../local/paths.ts";
import { freePorts } from "./ports.ts";
import { type Cluster, startCluster } from "../../local/postgres.ts";
import { removeHomeElsewhere } from "../../local/postgres_place.ts";
import { makeTestFolder } from "./folders.ts";

/** Where the packages postgresql-15 and postgresql-15-cron put their files. */
const BINARIES = "/usr/lib/postgresql/15";
const LIBRARY = `${BINARIES}/lib/pg_cron.so`;

/** False where the packages are not installed, and tests have to be skipped. CI installs them: there it is true. */
export function hasPgCron(): boolean {
  if (Deno.env.get("CI")) return true;
  return [LIBRARY, `${BINARIES}/bin/initdb`].every((path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  });
}

export interface CronServer {
  /** A pool of connections as `postgres`, who owns the database and is no superuser, as on a hosted project. */
  sql: postgres.Sql;
  /** Applies a migration of this checkout, whole or not at all, and answers the notices it raised. */
  apply(migration: string): Promise<string[]>;
  /** Ends the server in order and starts it again, which is when jobs of `@reboot` run. */
  restart(): Promise<void>;
  /** Ends it and removes its files. */
  stop(): Promise<void>;
}

/**
 * Starts it with the platform baseline, of which the extension itself takes the place of the stand-in for cron. It runs as
 * an unprivileged account, and ends with this process.
 */
export async function startCronServer(): Promise<CronServer> {
  const folder = await makeTestFolder({ inMemory: true });
  const [port] = freePorts(1);
  const start = () =>
    startCluster({
      dataDir: folder.path,
      port: port!,
      durable: false,
      server: {
        binaries: BINARIES,
        localeArgs: ["--locale=C"],
        settings: {
          "shared_preload_libraries": "pg_cron",
          "cron.database_name": "postgres",
          // As on hosted projects: each job in a worker of the server, without a connection and a password.
          "cron.use_background_workers": "on",
          "max_worker_processes": "20",
        },
      },
    });
  let cluster: Cluster | undefined;
  let sql: postgres.Sql | undefined;
  const remove = async () => {
    await sql?.end({ timeout: 5 });
    await cluster?.stop();
    await removeHomeElsewhere(folder.path);
    await folder.remove();
  };
  try {
    cluster = await start();
    await applyBaseline(cluster);
    sql = postgres(cluster.url(), { onnotice: () => {} });
  } catch (error) {
    await remove();
    throw error;
  }
  return {
    sql,
    async apply(migration) {
      const notices: string[] = [];
      const text = await Deno.readTextFile(`${CHECKOUT}/supabase/migrations/${migration}`);
      const one = postgres(cluster!.url(), {
        max: 1,
        onnotice: (notice) => notices.push(notice.message ?? ""),
      });
      try {
        await one.begin((transaction) => transaction.unsafe(text).simple());
      } finally {
        await one.end();
      }
      return notices;
    },
    async restart() {
      await cluster!.stop();
      cluster = await start();
    },
    stop: remove,
  };
}

async function applyBaseline(cluster: Cluster): Promise<void> {
  const superuser = postgres(cluster.superuserUrl(), { max: 1, onnotice: () => {} });
  try {
    const folder = `${CHECKOUT}/local/platform`;
    const names = [...Deno.readDirSync(folder)].map((entry) => entry.name).filter((name) =>
      name.endsWith(".sql") && !name.includes("cron")
    );
    for (const name of names.sort()) {
      await superuser.unsafe(await Deno.readTextFile(`${folder}/${name}`)).simple();
    }
    // What a hosted project does when the extension is enabled.
    await superuser.unsafe(`
      create extension pg_cron;
      grant usage on schema cron to postgres with grant option;
      grant all on all tables in schema cron to postgres with grant option;
    `).simple();
  } finally {
    await superuser.end();
  }
}
