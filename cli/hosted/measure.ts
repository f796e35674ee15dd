/** Measures a project from outside and from inside its functions. Nothing on it is changed. */
import { z } from "zod";
import type { HostFacts } from "../../shared/maintenance/host_check.ts";

export interface MeasureOptions {
  /** The functions' address, `https://<ref>.supabase.co/functions/v1`, with the prefix of their names if there is one. */
  functions: string;
  /** The REST API's, `https://<ref>.supabase.co/rest/v1`. */
  rest: string;
  secretKey: string;
  fetch: typeof fetch;
  now: () => number;
  newId: () => string;
  sleep: (ms: number) => Promise<void>;
  say: (line: string) => void;
}

export interface Sample {
  /** As the caller saw it. */
  ms: number;
  facts: HostFacts;
}

export interface Measured {
  samples: Sample[];
  /** By function: milliseconds of three requests that are refused at once, or why there are none. */
  refusals: Record<string, number[] | string>;
  disconnect: "noticed" | "not noticed" | "another instance answered";
  database: z.output<typeof database>;
}

const SAMPLES = 12;
/** Asked for a while after the client has left, of whichever instance answers. */
const PROBES = 10;
const PROBE_MS = 500;
const LEAVES_AFTER_MS = 1_000;
const HOLD_MS = 15_000;
const ANSWER_MS = 30_000;

const number = z.number();
const facts: z.ZodType<HostFacts> = z.object({
  instance: z.string(),
  age_ms: number,
  asked_before: number,
  deno: z.string().nullable(),
  resolve_dns: z.object({ works: z.boolean(), ms: number, problem: z.string().nullable() }),
  connects: z.boolean(),
  waits_until: z.boolean(),
  memory_bytes: number.nullable(),
  work_ms: number,
  rest_ms: z.array(number),
  direct: z.union([
    z.object({
      connect_ms: number,
      question_ms: z.array(number),
      connections_most: number,
      connections_used: number,
    }),
    z.object({ problem: z.string() }),
  ]).nullable(),
});

/** Of `eve_doctor`, what tells of the host. */
const database = z.object({
  server_version: z.string(),
  migrations: z.array(z.string()).nullable(),
  extensions: z.array(z.object({
    name: z.string(),
    installed: z.string().nullable(),
    available: z.string().nullable(),
    schema: z.boolean(),
  })),
  jobs: z.array(z.object({ name: z.string(), active: z.boolean(), last_ok_at: z.string().nullable() }))
    .nullable(),
  vault_names: z.array(z.string()).nullable(),
  http_last_hour: z.object({ answered: number }).loose().nullable(),
});

const held = z.object({ held: z.enum(["waiting", "left", "stayed"]).nullable() });

export async function measure(options: MeasureOptions): Promise<Measured> {
  const { now, say } = options;
  say("The database's extensions, schedule and Vault ...");
  const facts = await readDatabase(options);
  say("The runtime, and the way to the database ...");
  const samples: Sample[] = [];
  for (let time = 0; time < SAMPLES; time++) {
    const from = now();
    const facts = await check(options);
    samples.push({ ms: now() - from, facts });
  }
  say("What each function takes to answer ...");
  const refusals: Measured["refusals"] = {};
  for (const name of ["llm-invoke", "issue-kaggle-token", "admin", "api", "worker", "telegram"]) {
    refusals[name] = await refusalsOf(options, name);
  }
  say("Whether a client that leaves is noticed ...");
  return { samples, refusals, disconnect: await disconnect(options), database: facts };
}

async function post(
  options: MeasureOptions,
  path: string,
  body: unknown,
  signal?: AbortSignal,
): Promise<unknown> {
  const response = await options.fetch(`${options.functions}${path}`, {
    method: "POST",
    headers: { apikey: options.secretKey, "content-type": "application/json" },
    body: JSON.stringify(body),
    redirect: "error",
    signal: signal ?? AbortSignal.timeout(ANSWER_MS),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${path} answered ${response.status}: ${text.slice(0, 300)}`);
  return JSON.parse(text);
}

async function check(options: MeasureOptions): Promise<HostFacts> {
  return facts.parse(await post(options, "maintenance/check", {}));
}

async function readDatabase({ rest, secretKey, fetch }: MeasureOptions) {
  const response = await fetch(`${rest}/rpc/eve_doctor`, {
    method: "POST",
    headers: { apikey: secretKey, "content-type": "application/json" },
    body: "{}",
    redirect: "error",
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`The REST API answered ${response.status}: ${text.slice(0, 300)}`);
  return database.parse(JSON.parse(text));
}

/** Without a credential a function answers as soon as it is up: what is left is the way there and its start. */
async function refusalsOf(
  { functions, fetch, now }: MeasureOptions,
  name: string,
): Promise<number[] | string> {
  const took: number[] = [];
  for (let time = 0; time < 3; time++) {
    const from = now();
    const response = await fetch(`${functions}${name}`, {
      method: "POST",
      body: "{}",
      redirect: "error",
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    await response.body?.cancel();
    if (response.status === 404) return "not deployed";
    if (response.status >= 500) return `answered ${response.status}`;
    took.push(now() - from);
  }
  return took;
}

/** Leaves in the middle of a request, and asks the instance afterwards what it saw. */
async function disconnect(options: MeasureOptions): Promise<Measured["disconnect"]> {
  const id = options.newId();
  const leave = new AbortController();
  const request = post(options, "maintenance/check/hold", { id, ms: HOLD_MS }, leave.signal).catch(() => {});
  await options.sleep(LEAVES_AFTER_MS);
  leave.abort();
  await request;
  let seen = false;
  for (let look = 0; look < PROBES; look++) {
    const state = held.parse(await post(options, "maintenance/check", { held: id })).held;
    if (state === "left") return "noticed";
    seen ||= state !== null;
    await options.sleep(PROBE_MS);
  }
  return seen ? "not noticed" : "another instance answered";
}
