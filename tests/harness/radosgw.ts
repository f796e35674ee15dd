/** Ceph's object gateway on a cluster of its own: one monitor, one OSD that keeps all in memory, one gateway. */
import { freePorts } from "./ports.ts";
import { type BackgroundProcess, startProcess } from "./background_process.ts";
import { makeTestFolder } from "./folders.ts";
import { until } from "./patience.ts";
import { ACCESS_KEY_ID, bucketMaker, RADOSGW, SECRET_ACCESS_KEY, type TestStore } from "./stores.ts";

export interface Radosgw extends TestStore {
  /** Ends the gateway as a crash would. What it has answered stays: that is with the OSD. */
  crash(): Promise<void>;
  /** Starts it again, at the same address. */
  revive(): Promise<void>;
}

/** Debian's name of the machine's kind of library. */
const TRIPLET = `${Deno.build.arch}-linux-gnu`;
const LIBRARIES = `${RADOSGW}/usr/lib/${TRIPLET}`;

function config(
  folder: string,
  fsid: string,
  ports: { monitor: number; osd: number; gateway: number },
): string {
  return `
[global]
fsid = ${fsid}
mon host = v2:127.0.0.1:${ports.monitor}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
ms bind port min = ${ports.osd}
ms bind port max = ${ports.osd + OSD_PORTS - 1}
# The gateway speaks to no cluster without it.
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = ${folder}/keyring
run dir = ${folder}
admin socket =
pid file =
crash dir =
log to file = false
log to stderr = false
err to stderr = true
mon cluster log to file = false
plugin dir = ${LIBRARIES}/ceph
erasure code dir = ${LIBRARIES}/ceph/erasure-code
osd class dir = ${LIBRARIES}/rados-classes
# One OSD holds the only copy.
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
# Nobody else agrees to anything: the default of a second for each decision makes a start take three times as long.
paxos propose interval = 0.05
paxos min wait = 0.01
# A nearly full disk of the machine is not this test's affair.
mon data avail warn = 1
mon data avail crit = 0
[mon.a]
mon data = ${folder}/mon
[osd.0]
osd data = ${folder}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
[client.rgw]
rgw data = ${folder}/rgw
# Else the second packet of an answer waits 40 ms for the first one to be acknowledged.
rgw frontends = beast endpoint=127.0.0.1:${ports.gateway} tcp_nodelay=1
rgw dynamic resharding = false
`;
}

/** An OSD listens for clients, for other OSDs, and twice for heartbeats. */
const OSD_PORTS = 6;

/** Starts it: some 6 s alone, 150 MB. What it keeps is gone with it. */
export async function startRadosgw(): Promise<Radosgw> {
  const folder = await makeTestFolder();
  const [monitor, gateway, osd] = freePorts(2 + OSD_PORTS);
  const url = `http://127.0.0.1:${gateway}`;
  const env = {
    PATH: `${RADOSGW}/usr/bin:/usr/bin:/bin`,
    LD_LIBRARY_PATH: [LIBRARIES, `${LIBRARIES}/ceph`, `${RADOSGW}/lib/${TRIPLET}`].join(":"),
    CEPH_CONF: `${folder.path}/ceph.conf`,
    LC_ALL: "C",
  };
  const processes: BackgroundProcess[] = [];
  const at = (name: string) => `${folder.path}/${name}`;
  const run = async (...command: string[]) => {
    const [program, ...args] = command;
    const { success, stdout, stderr } = await new Deno.Command(`${RADOSGW}/usr/bin/${program}`, {
      args,
      env,
      cwd: folder.path,
    }).output();
    if (!success) throw new Error(`${program}: ${new TextDecoder().decode(stderr).slice(-2_000)}`);
    return new TextDecoder().decode(stdout);
  };
  const start = async (...command: string[]) => {
    const [program, ...args] = command;
    const process = await startProcess([`${RADOSGW}/usr/bin/${program}`, "--foreground", ...args], env);
    processes.push(process);
    return process;
  };
  const answers = async () => {
    try {
      await (await fetch(url)).body?.cancel();
      return true;
    } catch {
      return false;
    }
  };
  const startGateway = async () => {
    const process = await start("radosgw", "--name", "client.rgw");
    let code: number | undefined;
    process.ended.then((ended) => code = ended);
    await until(async () => code !== undefined || await answers(), "the gateway does not answer");
    if (code !== undefined) throw new Error(`radosgw ended with ${code}: ${process.said()}`);
    return process;
  };
  const stop = async () => {
    for (const process of processes.reverse()) await process.kill();
    await folder.remove();
  };

  try {
    const fsid = crypto.randomUUID();
    await Deno.writeTextFile(
      at("ceph.conf"),
      config(folder.path, fsid, { monitor: monitor!, osd: osd!, gateway: gateway! }),
    );
    await Deno.mkdir(at("osd"));
    await Deno.mkdir(at("rgw"));
    const all = ["--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"];
    await run(
      "ceph-authtool",
      "--create-keyring",
      "keyring",
      "--gen-key",
      "-n",
      "mon.",
      "--cap",
      "mon",
      "allow *",
    );
    for (const name of ["client.admin", "client.rgw", "osd.0"]) {
      await run("ceph-authtool", "keyring", "--gen-key", "-n", name, ...all);
    }
    await run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", `[v2:127.0.0.1:${monitor}]`, "monmap");
    // With a map that has the OSD already nobody has to announce it, so Ceph's command line (and its Python) is not needed.
    await run("osdmaptool", "--createsimple", "1", "osdmap");
    await run(
      ..."ceph-mon --mkfs --id a --monmap monmap --osdmap osdmap --keyring keyring".split(" "),
    );
    await start("ceph-mon", "--id", "a");
    await run("ceph-osd", "--mkfs", "--id", "0", "--osd-uuid", crypto.randomUUID(), "--no-mon-config");
    await start("ceph-osd", "--id", "0");
    let running = await startGateway();
    await run(
      ...[
        "radosgw-admin",
        "--name",
        "client.rgw",
        "user",
        "create",
        "--uid",
        "owner",
        "--display-name",
        "Owner",
      ],
      ...["--access-key", ACCESS_KEY_ID, "--secret-key", SECRET_ACCESS_KEY],
    );
    const settings = {
      endpoint: url,
      region: "us-east-1",
      bucket: "none-yet",
      accessKeyId: ACCESS_KEY_ID,
      secretAccessKey: SECRET_ACCESS_KEY,
    };
    return {
      settings,
      newBucket: bucketMaker(settings),
      crash: () => running.kill(),
      async revive() {
        running = await startGateway();
      },
      stop,
    };
  } catch (error) {
    const said = processes.map((process) => process.said()).join("\n");
    await stop();
    throw new Error(`${error instanceof Error ? error.message : error}\n${said}`, { cause: error });
  }
}
