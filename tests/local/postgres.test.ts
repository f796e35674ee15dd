/** The database server where it is hard to start: folders nobody else may enter, locks and processes left behind. */
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePorts } from "../harness/ports.ts";
import { type Cluster, startCluster } from "../../local/postgres.ts";
import { ELSEWHERE_NOTE, removeHomeElsewhere } from "../../local/postgres_place.ts";
import { StartError } from "../../local/start_error.ts";
import { makeTestFolder, type TestFolder } from "../harness/folders.ts";

/** One folder for all: each test leaves a cluster behind, as a run would, and the next one has to cope with it. */
let folder: TestFolder;
const clusters: Cluster[] = [];

beforeAll(async () => {
  folder = await makeTestFolder();
});

afterAll(async () => {
  await Promise.all(clusters.map((cluster) => cluster.stop()));
  await removeHomeElsewhere(folder.path);
  await folder.remove();
});

test("a first start that was cut short begins again", async () => {
  await Deno.mkdir(`${folder.path}/postgres.unfinished/base`, { recursive: true });
  await Deno.mkdir(`${folder.path}/postgres`);
  await expect(start()).resolves.toBeDefined();
});

test("a server left behind, with its lock, is taken back with its data", async () => {
  const left = clusters.at(-1)!;
  const sql = postgres(left.superuserUrl(), { max: 1 });
  await sql`create table public.kept as select 1 as one`;
  await sql.end();
  const next = await start();
  expect(await rowsKept(next)).toBe("1");
  expect(next.pid).not.toBe(left.pid);
});

test("a lock whose process id now belongs to another program does not keep it from starting", async () => {
  const lock = await Deno.readTextFile(`${folder.path}/postgres/postmaster.pid`);
  await clusters.at(-1)!.stop();
  await Deno.writeTextFile(`${folder.path}/postgres/postmaster.pid`, lock.replace(/^\d+/, String(Deno.pid)));
  await expect(start()).resolves.toBeDefined();
});

test("a taken port is named", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  await expect(start(port)).rejects.toThrow(
    new StartError(
      `Port ${port} is taken: stop the program that listens there, or choose other ports with EVE_PORT.`,
    ),
  );
  listener.close();
});

test.skipIf(Deno.uid() !== 0)(
  "root finds a cluster of another account: that account goes on running it",
  async () => {
    const files = `${folder.path}/postgres`;
    expect((await new Deno.Command("chown", { args: ["-R", "65534:65534", files] }).output()).success).toBe(
      true,
    );
    expect(await rowsKept(await start())).toBe("1");
  },
);

test.skipIf(Deno.uid() !== 0)(
  "root in a folder of its own: files live where the server's account can go",
  async () => {
    const closed = await makeTestFolder();
    await Deno.chmod(closed.path, 0o700);
    const cluster = await start(freePorts(1)[0], closed.path);
    const home = (await Deno.readTextFile(`${closed.path}/${ELSEWHERE_NOTE}`)).trim();
    expect((await Deno.stat(`${home}/postgres/PG_VERSION`)).isFile).toBe(true);
    await cluster.stop();
    await removeHomeElsewhere(closed.path);
    await expect(Deno.stat(home)).rejects.toThrow(Deno.errors.NotFound);
    await closed.remove();
  },
);

async function start(port = freePorts(1)[0]!, dataDir = folder.path): Promise<Cluster> {
  const cluster = await startCluster({ dataDir, port, durable: false });
  clusters.push(cluster);
  return cluster;
}

async function rowsKept(cluster: Cluster): Promise<string> {
  const sql = postgres(cluster.superuserUrl(), { max: 1 });
  const [row] = await sql`select count(*) from public.kept`;
  await sql.end();
  return row!.count;
}
