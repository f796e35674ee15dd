/**
 * `npm run bench:gateway -- [--json] [--quick]`: what a call costs on its way through a gateway.
 *
 * The same chat completion goes, in turns and in one run on loopback, straight to an upstream that answers at once or after
 * 50 ms; through this gateway (the whole local stack: origin, function, REST or a direct connection, PostgreSQL); and
 * through Portkey's gateway, which neither authenticates, reserves nor logs. `added` is the percentile through a gateway less the same percentile
 * straight. Goal: less added than Portkey, at p50 and p99.
 */
import postgres from "postgres";
import { CHECKOUT } from "../local/paths.ts";
import { freePorts } from "../local/ports.ts";
import { removeHomeElsewhere } from "../local/postgres_place.ts";
import { makeTestFolder } from "../tests/harness/folders.ts";
import { closedLoop, type Measured, openLoop, type Target } from "./gateway/load.ts";
import { median } from "./statistics.ts";

const quick = Deno.args.includes("--quick");
const json = Deno.args.includes("--json");
const TURN_MS = quick ? 700 : 3_000;
const TURNS = quick ? 1 : 3;
const MODEL = "gemma-4-31b-it";
const say = (line: string) => json ? console.error(line) : console.log(line);

const cleanups: (() => unknown)[] = [];
try {
  await installPeers();
  const figures = await measureAll();
  console.log(
    json ? JSON.stringify(figures) : JSON.stringify(figures, null, 2),
  );
} finally {
  while (cleanups.length > 0) await cleanups.pop()!();
}
Deno.exit(0);

async function measureAll() {
  const upstream = await startUpstream();
  const contenders: Record<
    string,
    { target: (stream: boolean) => Target; pids: number[] }
  > = {
    direct: {
      target: (stream) => ({
        url: `${upstream}/v1beta/models/${MODEL}:${
          stream ? "streamGenerateContent?alt=sse" : "generateContent"
        }`,
        headers: {},
        body: { contents: [{ role: "user", parts: [{ text: "Hello" }] }] },
      }),
      pids: [],
    },
    eve_rest: await startEve(upstream, "rest"),
    eve_direct: await startEve(upstream, "direct"),
  };
  const portkey = await startPortkey(upstream);
  if (portkey) contenders.portkey = portkey;

  const matrix: Record<string, Record<string, Measured>> = {};
  const scenarios: [
    string,
    number,
    (target: Target) => Promise<Measured>,
    boolean,
  ][] = [];
  for (const delay of [50, 0]) {
    for (const rate of [10, 50, 100, 200]) {
      scenarios.push([
        `open_${rate}_per_second_upstream_${delay}_ms`,
        delay,
        (target) => openLoop(target, rate, TURN_MS),
        false,
      ]);
    }
    for (const workers of [1, 10, 50]) {
      scenarios.push([
        `closed_${workers}_upstream_${delay}_ms`,
        delay,
        (target) => closedLoop(target, workers, TURN_MS),
        false,
      ]);
    }
  }
  scenarios.push([
    "stream_first_byte_closed_10",
    0,
    (target) => closedLoop(target, 10, TURN_MS, true),
    true,
  ]);
  for (const contender of Object.values(contenders)) {
    await closedLoop(contender.target(false), 4, 500); // Warm-up.
  }
  for (const [name, delay, run, stream] of scenarios) {
    await fetch(`${upstream}/__delay`, { method: "POST", body: String(delay) });
    const turns: Record<string, Measured[]> = {};
    for (let n = 0; n < TURNS; n++) {
      for (const [who, { target }] of Object.entries(contenders)) {
        (turns[who] ??= []).push(await run(target(stream)));
      }
    }
    matrix[name] = Object.fromEntries(
      Object.entries(turns).map(([who, all]) => [who, {
        calls: all.reduce((sum, one) => sum + one.calls, 0),
        failed: all.reduce((sum, one) => sum + one.failed, 0),
        per_second: median(all.map((one) => one.per_second)),
        p50_ms: median(all.map((one) => one.p50_ms)),
        p99_ms: median(all.map((one) => one.p99_ms)),
      }]),
    );
    say(
      `${name}: ${
        Object.entries(matrix[name]!).map(([who, m]) =>
          `${who} p50 ${m.p50_ms} p99 ${m.p99_ms} (${m.per_second}/s, ${m.failed} failed)`
        ).join("; ")
      }`,
    );
  }

  const round = (value: number) => Math.round(value * 100) / 100;
  const added = Object.fromEntries(
    Object.entries(matrix).map(([name, all]) => [
      name,
      Object.fromEntries(
        Object.entries(all).filter(([who]) => who !== "direct").map((
          [who, m],
        ) => [who, {
          p50_ms: round(m.p50_ms - all.direct!.p50_ms),
          p99_ms: round(m.p99_ms - all.direct!.p99_ms),
        }]),
      ),
    ]),
  );
  const ratios = portkey
    ? Object.fromEntries(
      Object.entries(added).map(([name, all]) => [name, {
        p50_over_portkey: round(all.eve_direct!.p50_ms / all.portkey!.p50_ms),
        p99_over_portkey: round(all.eve_direct!.p99_ms / all.portkey!.p99_ms),
        rest_p50_over_portkey: round(
          all.eve_rest!.p50_ms / all.portkey!.p50_ms,
        ),
      }]),
    )
    : {};
  const memory = Object.fromEntries(
    Object.entries(contenders).filter(([, { pids }]) => pids.length > 0).map((
      [who, { pids }],
    ) => [who, pids.reduce((sum, pid) => sum + residentMb(pid), 0)]),
  );
  const failed = Object.values(matrix).some((all) => Object.values(all).some((m) => m.failed > 0));
  return {
    bench: "gateway",
    turns: { each_ms: TURN_MS, turns: TURNS },
    machine: { cores: navigator.hardwareConcurrency, deno: Deno.version.deno },
    matrix,
    added_ms: added,
    memory_mb: memory,
    ratios,
    goals: {
      p50_over_portkey: "below 1 in every scenario",
      p99_over_portkey: "below 1 in every scenario",
    },
    met: portkey !== null && !failed &&
      Object.values(ratios).every((ratio) => ratio.p50_over_portkey < 1 && ratio.p99_over_portkey < 1),
  };
}

/** bench/'s own packages, if they are missing: no user of the gateway installs them. */
async function installPeers(): Promise<void> {
  try {
    await Deno.stat(`${CHECKOUT}/bench/node_modules/@portkey-ai/gateway`);
    return;
  } catch {
    say("Installing what it is compared with (npm ci in bench/) ...");
  }
  const { success, stderr } = await new Deno.Command("npm", {
    args: [
      "ci",
      "--prefix",
      `${CHECKOUT}/bench`,
      "--loglevel=error",
      "--no-fund",
      "--no-audit",
    ],
    cwd: CHECKOUT,
    stdout: "null",
    stderr: "piped",
  }).output();
  if (!success) {
    say(
      `npm ci --prefix bench failed: ${new TextDecoder().decode(stderr).slice(-500)}`,
    );
  }
}

async function startUpstream(): Promise<string> {
  const process = spawn(Deno.execPath(), [
    "run",
    "--allow-net",
    `${CHECKOUT}/bench/gateway/upstream.ts`,
  ], {});
  return (await lineOf(process, /^listening (.+)$/))[1]!;
}

/** The whole stack in processes of its own, with limits out of the way. */
async function startEve(upstream: string, transport: "rest" | "direct") {
  const folder = await makeTestFolder();
  const dataDir = `${folder.path}/data`; // The stack locks it, and the test folder is locked already.
  const [port] = freePorts(3);
  const process = spawn(Deno.execPath(), [
    "run",
    "-A",
    "--unstable-no-legacy-abort",
    `${CHECKOUT}/local/main.ts`,
  ], {
    EVE_PORT: String(port),
    EVE_DATA_DIR: dataDir,
    GOOGLE_API_BASE_URL: upstream,
    EVE_LEDGER_TRANSPORT: transport,
  });
  cleanups.push(async () => {
    await removeHomeElsewhere(dataDir);
    await folder.remove();
  });
  cleanups.push(async () => {
    process.kill("SIGTERM");
    await process.status;
  });
  await lineOf(process, /^ready$/);
  const env = Object.fromEntries(
    (await Deno.readTextFile(`${dataDir}/env`)).trim().split("\n").map(
      (line) => {
        const at = line.indexOf("=");
        return [line.slice(0, at), line.slice(at + 1)];
      },
    ),
  );
  const sql = postgres(env.DATABASE_URL!, { max: 1 });
  await sql`update public.google_ai_model_limits set rpm = null, tpm = null, rpd = null`;
  await sql.end();
  const state = JSON.parse(await Deno.readTextFile(`${dataDir}/stack.json`));
  return {
    pids: [process.pid, ...findPids(state)],
    target: (stream: boolean) => ({
      url: `${env.SUPABASE_URL}/functions/v1/llm-invoke/openai/v1/chat/completions`,
      headers: { authorization: `Bearer ${env.SUPABASE_SECRET_KEY}` },
      body: {
        model: MODEL,
        messages: [{ role: "user", content: "Hello" }],
        stream,
      },
    }),
  };
}

/** Its functions' process ids, wherever stack.json keeps them. */
function findPids(state: Record<string, unknown>): number[] {
  const functions = (state.functions ?? {}) as Record<
    string,
    { pid?: number } | number
  >;
  return Object.values(functions).map((one) => typeof one === "number" ? one : one.pid).filter((pid) =>
    pid !== undefined
  );
}

async function startPortkey(upstream: string) {
  const program = `${CHECKOUT}/bench/node_modules/@portkey-ai/gateway/build/start-server.js`;
  try {
    await Deno.stat(program);
  } catch {
    say("@portkey-ai/gateway is not installed: run `npm ci` in bench/");
    return null;
  }
  const [port] = freePorts(1);
  const process = spawn("node", [program, `--port=${port}`, "--headless"], {});
  cleanups.push(async () => {
    process.kill("SIGKILL");
    await process.status;
  });
  await lineOf(process, /Ready for connections/);
  return {
    pids: [process.pid],
    target: (stream: boolean) => ({
      url: `http://127.0.0.1:${port}/v1/chat/completions`,
      headers: {
        "authorization": "Bearer key",
        "x-portkey-provider": "google",
        "x-portkey-custom-host": upstream,
      },
      body: {
        model: MODEL,
        messages: [{ role: "user", content: "Hello" }],
        stream,
      },
    }),
  };
}

function spawn(
  program: string,
  args: string[],
  env: Record<string, string>,
): Deno.ChildProcess {
  const process = new Deno.Command(program, {
    args,
    env,
    cwd: CHECKOUT,
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  if (args.some((arg) => arg.endsWith("upstream.ts"))) {
    cleanups.push(() => process.kill("SIGKILL"));
  }
  return process;
}

/** Waits for a line, then goes on reading so that the pipe never fills. */
async function lineOf(
  process: Deno.ChildProcess,
  pattern: RegExp,
): Promise<RegExpMatchArray> {
  const lines = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (true) {
    const { value, done } = await lines.read();
    if (done) {
      throw new Error(`ended before it said ${pattern}: ${text.slice(-500)}`);
    }
    text += value;
    const found = text.split("\n").map((line) => line.match(pattern)).find((
      match,
    ) => match);
    if (found) {
      (async () => {
        while (!(await lines.read()).done);
      })();
      return found;
    }
  }
}

/** Resident memory of a process, in MB. */
function residentMb(pid: number): number {
  try {
    const status = Deno.readTextFileSync(`/proc/${pid}/status`);
    return Math.round(Number(status.match(/VmRSS:\s+(\d+)/)![1]) / 1024);
  } catch {
    return 0;
  }
}
