/** `npm start` as a user meets it: run by the launcher, read from the terminal, ended by signals. */
import { cp } from "node:fs/promises";
import { createClient } from "@supabase/supabase-js";
import postgres from "postgres";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { eachLine } from "../../local/lines.ts";
import { makePackage } from "../../local/pack.ts";
import { installIfNeeded } from "../../local/packages.mjs";
import { CHECKOUT } from "../../local/paths.ts";
import { portIsFree } from "../../local/ports.ts";
import { hasProgram } from "../harness/programs.ts";
import { insist } from "../harness/load/troubles.ts";
import { PATIENCE_MS, until } from "../harness/patience.ts";
import { freePorts } from "../harness/ports.ts";
import { removeHomeElsewhere } from "../../local/postgres_place.ts";
import { copyCheckout } from "../deploy/checkout_copy.ts";
import { makeTestFolder, type TestFolder } from "../harness/folders.ts";

/** An answer that fits the first call's schema. */
const EVENT = JSON.stringify({
  title: "Вечер романса",
  date: "14 февраля",
  place: "Дом офицеров",
  price: "600",
});

/** A started launcher and everything it printed. */
interface Run {
  process: Deno.ChildProcess;
  lines: string[];
  /** Resolves with the exit code. */
  ended: Promise<number>;
  /** Resolves at the line `ready`; throws when the process ends before. */
  ready: Promise<void>;
}

let folder: TestFolder;
let dataDir: string;
let ports: number[];
const runs: Run[] = [];

beforeAll(async () => {
  folder = await makeTestFolder({ inMemory: true });
  dataDir = `${folder.path}/data`;
  ports = freePorts(6);
});

afterAll(async () => {
  for (const run of runs) kill(run.process.pid, "SIGTERM");
  await Promise.all(runs.map((run) => run.ended));
  await removeHomeElsewhere(dataDir);
  await folder.remove();
});

test("the first start serves, shows a first call and writes down how to reach it", async () => {
  const run = start();
  await run.ready;
  const env = await readEnv();
  expect(env).toMatchObject({
    SUPABASE_URL: `http://127.0.0.1:${ports[0]}`,
    DATABASE_URL: `postgresql://postgres:postgres@127.0.0.1:${ports[1]}/postgres`,
  });
  for (const [name, value] of Object.entries(env)) expect(run.lines).toContain(`${name}=${value}`);
  expect(run.lines.join("\n")).toMatch(/First call to gemma-4-31b-it with key demo-/);
  expect(run.lines.join("\n")).toMatch(/Left of its limits: \d+ of 30 requests a minute/);
});

test("what it prints ends with a line of its own that says ready; what functions print is in the log", async () => {
  const { lines } = runs[0]!;
  const question = lines.indexOf("  Say hello in one word.");
  expect(lines.slice(question, question + 2)).toEqual(["  Say hello in one word.", "    Hello"]);
  expect(lines.at(-1)).toBe("ready");
  expect(lines.filter((line) => line.includes("request_ended"))).toEqual([]);
  const log = /What the functions print is in (\S+)/.exec(lines.join("\n"))![1]!;
  await expect.poll(() => Deno.readTextFile(log)).toMatch(/\[llm-invoke\] .*request_ended/);
});

test("the console's address answers, whether it is built yet or not", async () => {
  const url = /Console: (\S+)/.exec(runs[0]!.lines.join("\n"))![1]!;
  expect(await (await fetch(url)).text()).toMatch(/<!doctype html>/i);
});

test.skipIf(!hasProgram("curl"))("the line to repeat the first call works as it is", async () => {
  const line = runs[0]!.lines.find((line) => line.trim().startsWith("curl"))!;
  const repeated = await new Deno.Command("sh", { args: ["-c", line] }).output();
  expect(JSON.parse(new TextDecoder().decode(repeated.stdout))).toMatchObject({
    model: "gemma-4-31b-it",
    attempts: 1,
  });
});

test("the API answers the secret key, and nobody else", async () => {
  const env = await readEnv();
  const secret = createClient(env.SUPABASE_URL!, env.SUPABASE_SECRET_KEY!);
  const { data, error } = await secret.from("google_ai_api_keys").select("key_alias").order("key_alias");
  expect(error).toBeNull();
  expect(data?.map((row) => row.key_alias)).toEqual(["demo-a", "demo-b", "demo-c"]);

  const publishable = createClient(env.SUPABASE_URL!, env.SUPABASE_PUBLISHABLE_KEY!);
  expect((await publishable.from("google_ai_api_keys").select("key_alias")).error?.code).toBe("42501");
  const keyless = await fetch(`${env.SUPABASE_URL}/rest/v1/google_ai_api_keys`);
  expect([keyless.status, (await keyless.json()).message]).toEqual([401, "No API key found in request"]);
});

test("a second stack in the same folder, or on the same port, gets one line that says so", async () => {
  expect(await refusal(start({ EVE_PORT: String(ports[3]) }))).toMatch(
    /is running already .*EVE_DATA_DIR and EVE_PORT/,
  );
  expect(await refusal(start({ EVE_DATA_DIR: `${folder.path}/other` }))).toBe(
    `Port ${ports[0]} is taken: stop the program that listens there, or choose other ports with EVE_PORT.`,
  );
});

test("after everything was killed in the middle, the next start finds the data", async () => {
  const env = await readEnv();
  const secret = createClient(env.SUPABASE_URL!, env.SUPABASE_SECRET_KEY!);
  await secret.from("google_ai_api_keys").update({ notes: "mine", priority: 77 }).eq("key_alias", "demo-b");
  await secret.from("google_ai_api_keys").delete().eq("key_alias", "demo-c");

  // Some of them are under way, and others wait.
  const jobs = await Promise.all(
    Array.from({ length: 12 }, (_, n) => handIn(env, `Reply with exactly: ${n}`)),
  );
  const state = JSON.parse(await Deno.readTextFile(`${dataDir}/stack.json`));
  const victims = [runs[0]!.process.pid, state.pid, state.postgres.pid, await parentOf(state.postgres.pid)];
  for (const part of [state.emulator, ...Object.values<{ pid: number }>(state.functions)]) {
    victims.push(part.pid);
  }
  for (const pid of victims) kill(pid, "SIGKILL");
  await runs[0]!.ended;
  const killedAt = new Date();

  await start().ready;
  expect(await readEnv()).toEqual(env);
  const { data } = await secret.from("google_ai_api_keys").select("key_alias, notes, priority").order(
    "key_alias",
  );
  expect(data).toEqual([
    { key_alias: "demo-a", notes: "Made by the local stack.", priority: 10 },
    { key_alias: "demo-b", notes: "mine", priority: 77 },
  ]);
  const sql = postgres(env.DATABASE_URL!, { max: 1, onnotice: () => {} });
  try {
    await until(async () => {
      // The leases and reservations of those who died end at once, and not in some minutes.
      await insist(() =>
        sql`
        with dead as (update eve.job_workers w set lease_until = now() where w.started_at < ${killedAt} returning w.id)
        update eve.jobs j set lease_until = now() from dead d where j.worker_id = d.id and j.lease_until is not null`
      );
      await insist(() =>
        sql`
        update eve.inflight i set lease_until = now()
        from eve.jobs j where j.state = 'queued' and starts_with(i.request_id, j.id::text)`
      );
      await insist(() => sql`update eve.jobs set run_at = now() where state = 'queued' and run_at > now()`);
      return (await sql`select from eve.jobs where finished_at is null`).length === 0;
    });
    const ended = await sql`select id, state, result -> 'body' ->> 'text' as text from eve.jobs`;
    expect(new Map(ended.map(({ id, state, text }) => [id, [state, text]]))).toEqual(
      new Map(jobs.map((id, n) => [id, ["succeeded", String(n)]])),
    );
  } finally {
    await sql.end();
  }
});

/** A call of the demonstration's model as a job: its id. */
async function handIn(env: Record<string, string>, prompt: string): Promise<string> {
  const response = await fetch(`${env.SUPABASE_URL}/functions/v1/llm-invoke`, {
    method: "POST",
    headers: { apikey: env.SUPABASE_SECRET_KEY!, "content-type": "application/json" },
    body: JSON.stringify({ model: "gemma-4-31b-it", prompt, mode: "queue" }),
  });
  return (await response.json()).job.id;
}

test("a signal ends it in order: code 0, no process and no port left", async () => {
  const state = JSON.parse(await Deno.readTextFile(`${dataDir}/stack.json`));
  const run = runs.at(-1)!;
  kill(run.process.pid, "SIGINT");
  expect(await run.ended).toBe(0);
  expect(ports.slice(0, 3).every(portIsFree)).toBe(true);
  expect(exists(state.pid) || exists(state.postgres.pid)).toBe(false);
  await expect(Deno.stat(`${dataDir}/stack.json`)).rejects.toThrow(Deno.errors.NotFound);
});

test("with a real key it talks to Google, and the demonstration keys rest", async () => {
  const received: string[] = [];
  const google = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    received.push(`${request.headers.get("x-goog-api-key")} ${new URL(request.url).pathname}`);
    return Response.json({
      candidates: [{ content: { role: "model", parts: [{ text: EVENT }] }, finishReason: "STOP", index: 0 }],
      usageMetadata: { promptTokenCount: 10, candidatesTokenCount: 1, totalTokenCount: 11 },
    });
  });
  const run = start({
    GOOGLE_API_KEY: "the-real-one",
    GOOGLE_API_LOCALNAME: "mine",
    GOOGLE_API_BASE_URL: `http://127.0.0.1:${google.addr.port}/`,
  });
  await run.ready;
  expect(run.lines.join("\n")).toMatch(/First call to gemma-4-31b-it with key mine/);
  expect(received).toEqual(["the-real-one /v1beta/models/gemma-4-31b-it:generateContent"]);
  expect(await activeKeys()).toEqual(["demo-b", "mine"]);
  await google.shutdown();
});

test("a start right after only the supervisor was killed waits for what it left behind", async () => {
  kill(JSON.parse(await Deno.readTextFile(`${dataDir}/stack.json`)).pid, "SIGKILL");
  await start().ready;
  expect(await activeKeys()).toEqual(["demo-a", "demo-b"]);
  const run = runs.at(-1)!;
  kill(run.process.pid, "SIGTERM");
  expect(await run.ended).toBe(0);
});

test.each([["npm", 0], ["its launcher", 1]])("it ends when %s is killed", async (_, victim) => {
  const run = start({}, ["npm", "start"]);
  await run.ready;
  const state = JSON.parse(await Deno.readTextFile(`${dataDir}/stack.json`));
  const launcher = await parentOf(state.pid);
  expect(await parentOf(launcher)).toBe(run.process.pid);
  const emulator = `${state.emulator.url}/__control`;
  const slow = JSON.stringify([{ kind: "delay", delayMs: 4_000 }]);
  await (await fetch(`${emulator}/faults`, { method: "POST", body: slow })).body?.cancel();
  const env = await readEnv();
  const begun = fetch(`${env.SUPABASE_URL}/functions/v1/llm-invoke`, {
    method: "POST",
    headers: { apikey: env.SUPABASE_SECRET_KEY!, "content-type": "application/json" },
    body: JSON.stringify({ model: "gemma-4-31b-it", prompt: "Reply with exactly: in time" }),
  });
  await until(async () => (await (await fetch(`${emulator}/stats`)).json()).faults.total > 0);
  kill([run.process.pid, launcher][victim]!, "SIGKILL");
  // In order, as by Ctrl-C: the functions end what they have begun.
  expect((await (await begun).json()).text).toBe("in time");
  const parts = [launcher, state.pid, state.postgres.pid, state.emulator.pid];
  for (const { pid } of Object.values<{ pid: number }>(state.functions)) parts.push(pid);
  await vi.waitFor(() => expect(parts.filter(exists)).toEqual([]), { timeout: PATIENCE_MS, interval: 100 });
  expect(ports.slice(0, 3).every(portIsFree)).toBe(true);
  await expect(Deno.stat(`${dataDir}/stack.json`)).rejects.toThrow(Deno.errors.NotFound);
  await run.ended;
});

test("nothing of it is in the home folder or the temporary folder afterwards", async () => {
  const [home, temporary] = [`${folder.path}/home`, `${folder.path}/tmp`];
  for (const path of [home, temporary]) await Deno.mkdir(path, { mode: 0o777 });
  const run = start({ HOME: home, TMPDIR: temporary, DENO_DIR: "", XDG_CACHE_HOME: "" });
  await run.ready;
  kill(run.process.pid, "SIGTERM");
  expect(await run.ended).toBe(0);
  expect([...Deno.readDirSync(home), ...Deno.readDirSync(temporary)].map(({ name }) => name)).toEqual([]);
});

test("where its function does not start there is no ready, but its own words", async () => {
  const checkout = await copyCheckout();
  try {
    for (const part of ["local", "package-lock.json"]) {
      await cp(`${CHECKOUT}/${part}`, `${checkout.root}/${part}`, { recursive: true });
    }
    const index = await Deno.readTextFile(`${checkout.root}/supabase/functions/llm-invoke/index.ts`);
    await checkout.write("supabase/functions/llm-invoke/index.ts", `import "not-there";\n${index}`);
    const run = start({ EVE_DATA_DIR: "" }, ["node", `${checkout.root}/local/start.mjs`]);
    expect(await run.ended).toBe(1);
    const said = run.lines.join("\n");
    expect(said).toContain(
      "The function llm-invoke does not start: run npm ci if a package is missing. It says:",
    );
    expect(said).toMatch(/not-there/);
    expect(run.lines).not.toContain("ready");
    await removeHomeElsewhere(`${checkout.root}/.local`);
  } finally {
    await checkout.remove();
  }
});

/** In CI alone: each of them is another 50 MB to fetch. */
test.skipIf(Deno.env.get("CI") === undefined).each(["22", "24"])(
  "Node %s starts the stack and the tests, and runs the installer, as Node 20 does",
  async (major) => {
    const nodes = `${CHECKOUT}/tests/local/nodes`;
    await installIfNeeded({ folder: nodes, development: false });
    const node = `${nodes}/node_modules/node-${major}/bin/node`;
    const home = `${folder.path}/node-${major}`;
    const env = { EVE_DATA_DIR: home, EVE_PORT: String(freePorts(6)[0]) };
    const run = start(env, [node, "local/start.mjs"]);
    await run.ready;
    kill(run.process.pid, "SIGINT");
    expect(await run.ended).toBe(0);
    await removeHomeElsewhere(home);
    const suite = await new Deno.Command(node, {
      args: ["local/test.mjs", "tests/unit/install"],
      cwd: CHECKOUT,
    }).output();
    expect(new TextDecoder().decode(suite.stdout)).toMatch(/Tests .*passed/);
    expect(suite.code).toBe(0);
    const packed = await makePackage({ root: CHECKOUT, out: home });
    const help = await new Deno.Command(node, { args: [`${packed}/eve-gateway.mjs`, "--help"] }).output();
    expect(new TextDecoder().decode(help.stdout)).toContain("npx eve-gateway init");
  },
);

test("reset removes what the stack made, and nothing else", async () => {
  await Deno.writeTextFile(`${dataDir}/mine.txt`, "");
  const args = ["local/run.mjs", "local/reset.ts"];
  const reset = new Deno.Command("node", {
    args,
    cwd: CHECKOUT,
    env: { EVE_DATA_DIR: dataDir },
    stdout: "null",
  });
  expect((await reset.output()).code).toBe(0);
  expect([...Deno.readDirSync(dataDir)].map((entry) => entry.name)).toEqual(["mine.txt"]);
});

test("settings that cannot work are refused in one line", async () => {
  await Deno.writeTextFile(`${folder.path}/file`, "");
  expect(await refusal(start({ EVE_DATA_DIR: `${folder.path}/file/data` }))).toMatch(/set EVE_DATA_DIR to/);
  expect(await refusal(start({ EVE_PORT: "http" }))).toBe(
    "EVE_PORT is not a port: http. Give a number from 1 to 65533, e.g. 54321.",
  );
});

function start(env: Record<string, string> = {}, [program, ...args] = ["node", "local/start.mjs"]): Run {
  const process = new Deno.Command(program!, {
    args,
    cwd: CHECKOUT,
    env: {
      EVE_DATA_DIR: dataDir,
      EVE_PORT: String(ports[0]),
      GOOGLE_API_KEY: "",
      GOOGLE_API_BASE_URL: "",
      ...env,
    },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const lines: string[] = [];
  const ready = Promise.withResolvers<void>();
  ready.promise.catch(() => {});
  const take = (line: string) => {
    lines.push(line);
    if (line === "ready") ready.resolve();
  };
  const output = Promise.all([eachLine(process.stdout, take), eachLine(process.stderr, take)]);
  const ended = process.status.then(async ({ code }) => {
    await output;
    ready.reject(new Error(`ended with code ${code}:\n${lines.join("\n")}`));
    return code;
  });
  const run = { process, lines, ended, ready: ready.promise };
  runs.push(run);
  return run;
}

/** The one line that a start which is refused ends with. */
async function refusal(run: Run): Promise<string> {
  expect(await run.ended).toBe(1);
  const said = run.lines.filter((line) => line !== "Starting the local stack ...");
  expect(said).toHaveLength(1);
  return said[0]!;
}

/** demo-b is the user's own since its notes were changed, so nobody switches it. */
async function activeKeys(): Promise<string[]> {
  const env = await readEnv();
  const secret = createClient(env.SUPABASE_URL!, env.SUPABASE_SECRET_KEY!);
  const { data } = await secret.from("google_ai_api_keys").select("key_alias").is("is_active", true).order(
    "key_alias",
  );
  return data!.map((row) => row.key_alias);
}

async function readEnv(): Promise<Record<string, string>> {
  const lines = (await Deno.readTextFile(`${dataDir}/env`)).trim().split("\n");
  return Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
  );
}

/** The guard that runs the database server. */
async function parentOf(pid: number): Promise<number> {
  const linux = await Deno.readTextFile(`/proc/${pid}/status`).catch(() => "");
  if (linux) return Number(linux.match(/^PPid:\s*(\d+)/m)![1]);
  const done = await new Deno.Command("ps", { args: ["-o", "ppid=", "-p", String(pid)] }).output();
  return Number(new TextDecoder().decode(done.stdout));
}

function exists(pid: number): boolean {
  try {
    Deno.kill(pid, 0 as unknown as Deno.Signal);
    return true;
  } catch {
    return false;
  }
}

function kill(pid: number, signal: Deno.Signal): void {
  try {
    Deno.kill(pid, signal);
  } catch {
    // It has ended.
  }
}
