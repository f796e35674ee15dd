/** The database server where it is hard to start: folders nobody else may enter, locks and processes left behind. */
import postgres from "postgres";
import { afterEach, beforeEach, expect, test } from "vitest";
import { freePorts } from "../../local/ports.ts";
import { type Cluster, startCluster } from "../../local/postgres.ts";
import { ELSEWHERE_NOTE, removeHomeElsewhere } from "../../local/postgres_place.ts";
import { StartRefused } from "../../local/refusal.ts";
import { makeTestFolder, type TestFolder } from "../harness/folders.ts";

let folder: TestFolder;
let clusters: Cluster[] = [];

beforeEach(async () => {
  folder = await makeTestFolder();
});

afterEach(async () => {
  await Promise.all(clusters.map((cluster) => cluster.stop()));
  clusters = [];
  await removeHomeElsewhere(folder.path);
  await folder.remove();
});

test("a server left behind, with its lock, is taken back with its data", async () => {
  const first = await start();
  const sql = postgres(first.superuserUrl(), { max: 1, onclose: () => {} });
  await sql`create table public.kept as select 1 as one`;
  await sql.end();
  // Not stopped: the second start finds it running, as after a supervisor that was killed.
  const second = await start();
  expect(await count(second)).toBe("1");
  expect(second.pid).not.toBe(first.pid);
});

test("a lock whose process id now belongs to another program does not keep it from starting", async () => {
  const first = await start();
  const lock = await Deno.readTextFile(`${folder.path}/postgres/postmaster.pid`);
  await first.stop();
  await Deno.writeTextFile(`${folder.path}/postgres/postmaster.pid`, lock.replace(/^\d+/, String(Deno.pid)));
  await expect(start()).resolves.toBeDefined();
});

test("a first start that was cut short begins again", async () => {
  await Deno.mkdir(`${folder.path}/postgres.unfinished/base`, { recursive: true });
  await Deno.mkdir(`${folder.path}/postgres`);
  await expect(start()).resolves.toBeDefined();
});

test("a taken port is named", async () => {
  const first = await start();
  const other = `${folder.path}/other`;
  await Deno.mkdir(other);
  await expect(start(first.port, other)).rejects.toThrow(
    new StartRefused(
      `Port ${first.port} is taken: stop the program that listens there, or choose other ports with EVE_PORT.`,
    ),
  );
});

test.skipIf(Deno.uid() !== 0)(
  "root in a folder of its own: files live where the server's account can go",
  async () => {
    await Deno.chmod(folder.path, 0o700);
    const cluster = await start();
    const home = (await Deno.readTextFile(`${folder.path}/${ELSEWHERE_NOTE}`)).trim();
    expect((await Deno.stat(`${home}/postgres/PG_VERSION`)).isFile).toBe(true);
    await cluster.stop();
    await removeHomeElsewhere(folder.path);
    await expect(Deno.stat(home)).rejects.toThrow(Deno.errors.NotFound);
  },
);

test.skipIf(Deno.uid() !== 0)(
  "root finds a cluster of another account: that account goes on running it",
  async () => {
    await (await start()).stop();
    const nobody = { uid: 65534, gid: 65534 };
    await new Deno.Command("chown", {
      args: ["-R", `${nobody.uid}:${nobody.gid}`, `${folder.path}/postgres`],
    }).output();
    await expect(start()).resolves.toBeDefined();
  },
);

async function start(port = freePorts(1)[0]!, dataDir = folder.path): Promise<Cluster> {
  const cluster = await startCluster({ dataDir, port, durable: false });
  clusters.push(cluster);
  return cluster;
}

async function count(cluster: Cluster): Promise<string> {
  const sql = postgres(cluster.superuserUrl(), { max: 1 });
  const [row] = await sql`select count(*) from public.kept`;
  await sql.end();
  return row!.count;
}
