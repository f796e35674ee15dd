/**
 * LiteLLM's proxy as a contender, by name: `npm run bench:gateway -- --with litellm`. As its documentation sets it up for a team: a database
 * of keys and spend (PostgreSQL), a virtual key with a rate limit, a model with its own. `--with litellm_no_database` leaves the database
 * out, and with it spend and the key's limit: where Prisma's engine cannot be had, which its installer fetches from a place of its own.
 */
import { CHECKOUT } from "../../local/paths.ts";
import { freePorts } from "../../local/ports.ts";
import { type Cluster, startCluster } from "../../local/postgres.ts";
import { removeHomeElsewhere } from "../../local/postgres_place.ts";
import { makeTestFolder } from "../../tests/harness/folders.ts";
import { type Contender, MODEL, type Upstream } from "./contenders.ts";
import { type Cleanups, memoryMb, spawn, withChildren } from "./processes.ts";

/** Of PyPI. */
const PACKAGES = ["litellm[proxy]==1.106.2", "prisma==0.15.0"];
const PLACE = `${CHECKOUT}/.local/litellm`;
/** Out of the way, as this gateway's limits are, and counted all the same. */
const RPM = 10_000_000;
const MASTER_KEY = "sk-bench";
/** It reads some thousand modules before it answers. */
const START_MS = 300_000;

export async function startLitellm(
  upstream: Upstream,
  cleanups: Cleanups,
  { database = true } = {},
): Promise<Contender> {
  await installed();
  const folder = await makeTestFolder();
  cleanups.add(async () => {
    await removeHomeElsewhere(folder.path);
    await folder.remove();
  });
  const [port, databasePort] = freePorts(2);
  const config = `${folder.path}/litellm.yaml`;
  await Deno.writeTextFile(config, JSON.stringify(configuration(upstream)));
  let cluster: Cluster | null = null;
  if (database) {
    await generated();
    cluster = await startCluster({
      dataDir: `${folder.path}/data`,
      port: databasePort!,
    });
    cleanups.add(() => cluster?.stop());
  }
  const { process, said } = spawn(`${PLACE}/bin/litellm`, [
    ...[
      "--config",
      config,
      "--host",
      "127.0.0.1",
      "--port",
      String(port),
      "--telemetry",
      "False",
    ],
  ], {
    // Prices come with the package; nothing is asked outside.
    LITELLM_LOCAL_MODEL_COST_MAP: "True",
    PATH: `${PLACE}/bin:${Deno.env.get("PATH") ?? ""}`,
    ...(cluster !== null && { DATABASE_URL: cluster.superuserUrl() }),
  });
  cleanups.add(async () => {
    process.kill("SIGTERM");
    await process.status;
  });
  // Its output is read, so that the pipe never fills.
  said(/^never$/).catch(() => {});
  const url = `http://127.0.0.1:${port}`;
  await answering(`${url}/health/liveliness`);
  const key = cluster === null ? MASTER_KEY : await virtualKey(url);
  return {
    target: (stream) => ({
      url: `${url}/v1/chat/completions`,
      headers: { authorization: `Bearer ${key}` },
      body: {
        model: MODEL,
        messages: [{ role: "user", content: "Hello" }],
        stream,
      },
      ...(stream && { content: "Concert, 14 February, 600" }),
    }),
    memory: () => ({ gateway: memoryMb(withChildren(process.pid)) }),
  };
}

/** JSON is YAML, too. */
function configuration({ url }: Upstream) {
  return {
    model_list: [{
      model_name: MODEL,
      litellm_params: {
        model: `gemini/${MODEL}`,
        api_base: `${url}/v1beta`,
        api_key: "key",
        rpm: RPM,
      },
    }],
    general_settings: { master_key: MASTER_KEY },
  };
}

/** @throws {Error} says what to do */
async function installed(): Promise<void> {
  const list = PACKAGES.join("\n");
  if (
    await Deno.readTextFile(`${PLACE}/installed.txt`).catch(() => "") === list
  ) return;
  console.error("Installing LiteLLM's proxy from PyPI ...");
  await run("python3", ["-m", "venv", "--clear", PLACE]);
  await run(`${PLACE}/bin/python`, [
    "-m",
    "pip",
    "install",
    "--quiet",
    "--disable-pip-version-check",
    ...PACKAGES,
  ]);
  await Deno.writeTextFile(`${PLACE}/installed.txt`, list);
}

/** What its database is asked with. */
async function generated(): Promise<void> {
  const script =
    "import litellm.proxy, os; print(os.path.join(os.path.dirname(litellm.proxy.__file__), 'schema.prisma'))";
  const schema = (await run(`${PLACE}/bin/python`, ["-c", script])).trim();
  await run(`${PLACE}/bin/prisma`, ["generate", "--schema", schema]).catch(
    (failed) => {
      throw new Error(
        "LiteLLM keeps spend and keys by Prisma, and Prisma's engine could not be fetched: measure without, by --with litellm_no_database. " +
          failed.message,
      );
    },
  );
}

async function run(program: string, args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, {
    args,
    env: { PATH: `${PLACE}/bin:${Deno.env.get("PATH") ?? ""}` },
  }).output();
  const said = new TextDecoder();
  if (success) return said.decode(stdout);
  throw new Error(
    `${program} ${args.slice(0, 3).join(" ")} failed: ${said.decode(stderr).slice(-500)}`,
  );
}

async function answering(url: string): Promise<void> {
  const until = performance.now() + START_MS;
  for (;;) {
    const answer = await fetch(url).catch(() => null);
    await answer?.body?.cancel();
    if (answer?.ok) return;
    if (performance.now() > until) {
      throw new Error(`LiteLLM's proxy did not start: ${url} does not answer`);
    }
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

/** A key of a caller, whose spend is kept and whose calls a minute are bounded. */
async function virtualKey(url: string): Promise<string> {
  const response = await fetch(`${url}/key/generate`, {
    method: "POST",
    headers: {
      "authorization": `Bearer ${MASTER_KEY}`,
      "content-type": "application/json",
    },
    body: JSON.stringify({
      models: [MODEL],
      rpm_limit: RPM,
      max_budget: 1_000_000,
    }),
  });
  const body = await response.text();
  if (!response.ok) {
    throw new Error(`LiteLLM's proxy makes no key: ${body.slice(0, 500)}`);
  }
  return JSON.parse(body).key;
}
