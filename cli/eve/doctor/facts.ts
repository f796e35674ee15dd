/** What the doctor looks at, before anything is judged. Everything is asked side by side; what fails is a fact too. */
import { statfs } from "node:fs/promises";
import { functionsIn, migrationsIn } from "../../deploy/checkout.ts";
import { sumOf } from "../../../local/migration_sums.ts";
import { CHECKOUT } from "../../../local/paths.ts";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { StorageStats } from "../../../shared/database/media/media.ts";
import type { KeyState, LaneState, ProjectFacts, RealtimeFacts } from "../../../shared/database/reading.ts";
import { DEFAULT_MODEL } from "../commands/invoke.ts";
import type { CommandDependencies } from "../command.ts";
import type { Connection } from "../connection.ts";
import { callFunction } from "../function_call.ts";

/** How a function answered an empty request with our key. */
export interface FunctionFacts {
  name: string;
  /** answers: it is ours and it works. absent: it is not deployed. refuses: it does not take the key. broken: anything else. */
  state: "answers" | "absent" | "refuses" | "broken";
  detail: string | null;
  /** Milliseconds by which its clock is ahead of the database's, to a second or two; null: unknown. */
  clockAheadMs: number | null;
}

export interface CallFacts {
  ok: boolean;
  model: string;
  key: string | null;
  latencyMs: number;
  /** The gateway's error code and message; null: it went well. */
  code: string | null;
  message: string | null;
}

/** The folder that the local stack keeps its data in. */
export interface FolderFacts {
  path: string;
  /** Null: this system does not say. */
  freeBytes: number | null;
  /** Why nothing can be written to it; null: it can. */
  problem: string | null;
}

export interface Facts {
  url: string;
  /** Null where the project is not the local stack. */
  folder: FolderFacts | null;
  /** Why the database takes nothing down, though it answers; null: it does. */
  writeProblem: string | null;
  /** ok; unreachable: nobody answers; unauthorised: the key is refused; unprepared: our functions are not in the database. */
  reach: { state: "ok" | "unreachable" | "unauthorised" | "unprepared" | "failing"; detail: string | null };
  /** Null where the project could not be reached. */
  project: ProjectFacts | null;
  /** Milliseconds by which this machine's clock is ahead of the database's; the error is half of `roundTripMs`. */
  clockAheadMs: number | null;
  roundTripMs: number | null;
  /** Of this checkout. */
  migrations: string[];
  /** Of their texts, by version. */
  migrationSums: Record<string, string>;
  functions: FunctionFacts[];
  keys: KeyState[];
  /** Limits for files, with what the variables of the environment said when the function api ran last; none where that does not answer. */
  fileLimits: StorageStats["limits"];
  /** A tenant that the environment names and that is not the default one; null: there is none. */
  defaultTenantHeld: StorageStats["default_tenant_held"];
  /** Null: the project's migrations do not know yet. */
  realtime: RealtimeFacts | null;
  /** Whether the keys were checked just now; null: the function could not be asked, and `why` says so. */
  keysChecked: { done: boolean; why: string | null };
  /** Null: not asked for, or pointless. */
  call: CallFacts | null;
}

export interface FactOptions {
  /** Spends one request of quota on a real call. */
  testCall: boolean;
  /** For the test call; by default one that a usable lane has. */
  model?: string;
}

/** More than a file system keeps in the directory itself. */
const SCRAP_BYTES = 64 * 1024;

/** Disk full, read-only transaction, input/output error; by SQLSTATE or in the system's words. */
const CANNOT_WRITE = /\b(53100|25006|58030)\b|No space left|read-only|Read-only/;

/** Functions that people sign in to, or that Telegram alone may call. */
const OTHER_CREDENTIALS: readonly string[] = ["admin", "telegram"];

/** Asks for as little as the model can say. */
const TEST_PROMPT = "Answer with the word ok.";
const TEST_WAIT_MS = 15_000;

export async function collectFacts(
  connection: Connection,
  { testCall, model }: FactOptions,
  { progress, now, signal }: Pick<CommandDependencies, "progress" | "now" | "signal">,
): Promise<Facts> {
  const wanted = await migrationsIn(CHECKOUT);
  const migrations = [...wanted.keys()].sort();
  const migrationSums = Object.fromEntries(
    await Promise.all(
      [...wanted].map(async ([version, file]) =>
        [version, await sumOf(await Deno.readTextFile(`${CHECKOUT}/supabase/migrations/${file}`))] as const
      ),
    ),
  );
  const names = await functionsIn(CHECKOUT);
  const nothing = {
    url: connection.url,
    folder: connection.folder === undefined ? null : await folderFacts(connection.folder),
    writeProblem: null,
    project: null,
    clockAheadMs: null,
    roundTripMs: null,
    migrations,
    migrationSums,
    functions: [],
    keys: [],
    fileLimits: [],
    defaultTenantHeld: null,
    realtime: null,
    keysChecked: { done: false, why: null },
    call: null,
  };

  progress("Reaching the project ...");
  const reach = await reachOf(connection);
  if (reach.state !== "ok") return { ...nothing, reach };

  progress("Comparing clocks ...");
  const clock = await compareClocks(connection, now);

  progress(`Asking ${names.join(", ")} ...`);
  const functions = await Promise.all(
    names.map((name) => askFunction(connection, name, () => now() - clock.clockAheadMs, signal)),
  );
  const answers = (name: string) => functions.some((one) => one.name === name && one.state === "answers");

  progress("Asking upstream about the keys ...");
  const keysChecked = answers("maintenance")
    ? await checkKeys(connection, signal)
    : { done: false, why: "the function maintenance does not answer" };
  const keys = await connection.reading.keys();

  progress("Comparing limits for files ...");
  const files = answers("api") ? await fileFactsOf(connection, signal) : NO_FILE_FACTS;

  progress("Writing something down ...");
  const writeProblem = await tryToWrite(connection);

  // After that, since it opens and closes alerts.
  progress("Comparing migrations and jobs ...");
  const project = await connection.reading.facts();
  // A project that lacks this checkout's migrations is told so by the check of them.
  const realtime = await connection.reading.realtime().catch(() => null);

  const lanes = keys.flatMap((key) => key.lanes);
  const chosen = model ?? testModel(lanes);
  let call: CallFacts | null = null;
  if (testCall && answers("llm-invoke") && chosen !== null) {
    progress(`Calling ${chosen} ...`);
    call = await makeCall(connection, chosen, now, signal);
  }
  return {
    ...nothing,
    reach,
    writeProblem,
    project,
    ...clock,
    functions,
    keys,
    ...files,
    realtime,
    keysChecked,
    call,
  };
}

async function folderFacts(path: string): Promise<FolderFacts> {
  const disk = await statfs(path).catch(() => undefined);
  const freeBytes = disk === undefined ? null : disk.bavail * disk.bsize;
  try {
    const file = await Deno.makeTempFile({ dir: path, prefix: "doctor-" });
    try {
      await Deno.writeFile(file, new Uint8Array(SCRAP_BYTES));
    } finally {
      await Deno.remove(file);
    }
    return { path, freeBytes, problem: null };
  } catch (thrown) {
    return { path, freeBytes, problem: thrown instanceof Error ? thrown.message : String(thrown) };
  }
}

type FileFacts = Pick<Facts, "fileLimits" | "defaultTenantHeld">;
const NO_FILE_FACTS: FileFacts = { fileLimits: [], defaultTenantHeld: null };

async function fileFactsOf(connection: Connection, signal: AbortSignal): Promise<FileFacts> {
  const { status, body } = await callFunction(connection, "api/v1/storage/stats", undefined, {
    method: "GET",
    signal,
  });
  // What is wrong with a function that answers otherwise is said by the check of it.
  const stats = status === 200 ? body as Partial<StorageStats> | undefined : undefined;
  return { fileLimits: stats?.limits ?? [], defaultTenantHeld: stats?.default_tenant_held ?? null };
}

/** Any operation that writes would do; this one is harmless, and has something to do at any time. */
async function tryToWrite({ reading }: Connection): Promise<string | null> {
  try {
    await reading.rollUp();
    return null;
  } catch (thrown) {
    if (!(thrown instanceof GatewayError)) throw thrown;
    const detail = thrown.detail ?? thrown.message;
    return CANNOT_WRITE.test(detail) ? detail : null;
  }
}

async function reachOf({ reading }: Connection): Promise<Facts["reach"]> {
  try {
    await reading.now();
    return { state: "ok", detail: null };
  } catch (thrown) {
    if (!(thrown instanceof GatewayError)) throw thrown;
    const detail = thrown.detail ?? thrown.message;
    if (/\b(PGRST202|PGRST106|42883|3F000)\b/.test(detail)) return { state: "unprepared", detail };
    if (/status (401|403)\b|\b42501\b/.test(detail)) return { state: "unauthorised", detail };
    return { state: /not reached|status (5\d\d|0|null)/.test(detail) ? "unreachable" : "failing", detail };
  }
}

/** The best of a few: the shortest round trip has the smallest error. */
async function compareClocks(
  { reading }: Connection,
  now: () => number,
): Promise<{ clockAheadMs: number; roundTripMs: number }> {
  let best = { clockAheadMs: 0, roundTripMs: Infinity };
  for (let round = 0; round < 3; round += 1) {
    const before = now();
    const { now: database } = await reading.now();
    const after = now();
    const roundTripMs = after - before;
    if (roundTripMs < best.roundTripMs) {
      best = { clockAheadMs: Math.round((before + after) / 2 - Date.parse(database)), roundTripMs };
    }
  }
  return best;
}

async function askFunction(
  connection: Connection,
  name: string,
  databaseNow: () => number,
  signal: AbortSignal,
): Promise<FunctionFacts> {
  try {
    // To the worker any POST is a call to work.
    const { status, headers, body } = name === "worker"
      ? await callFunction(connection, name, undefined, { method: "GET", signal })
      : await callFunction(connection, name, {}, { signal });
    const reported = Date.parse(headers.get("date") ?? "");
    // The header is cut to the second.
    const clockAheadMs = Number.isNaN(reported) ? null : reported + 500 - databaseNow();
    const said = typeof body?.error === "string" ? body.error : body?.error?.code ?? body?.code ?? null;
    const detail = `status ${status}${said === null ? "" : `, ${said}`}`;
    const found = (state: FunctionFacts["state"]) => ({ name, state, detail, clockAheadMs });
    if (said === "NOT_FOUND" || (status === 404 && body?.error === undefined)) return found("absent");
    // Those that take another credential than the project's key say so in the gateway's own words.
    const isOurs = typeof body?.error?.code === "string";
    if ((status === 401 || status === 403) && !(isOurs && OTHER_CREDENTIALS.includes(name))) {
      return found("refuses");
    }
    // An empty request is refused by all of them, each in its own words.
    return found(body?.error === undefined || status >= 500 ? "broken" : "answers");
  } catch (thrown) {
    const detail = thrown instanceof Error ? thrown.message : String(thrown);
    return { name, state: "broken", detail, clockAheadMs: null };
  }
}

async function checkKeys(connection: Connection, signal: AbortSignal): Promise<Facts["keysChecked"]> {
  const { status, body } = await callFunction(connection, "maintenance/key_health", {}, { signal });
  if (body?.status === "succeeded") return { done: true, why: null };
  // Another run is doing it at this moment: its result is as good.
  if (body?.status === "skipped") return { done: true, why: null };
  return { done: false, why: String(body?.error?.message ?? body?.error ?? `status ${status}`) };
}

/** The model that most likely answers: ours by default, else any that has a usable lane with something left. */
function testModel(lanes: readonly LaneState[]): string | null {
  const open = lanes.filter(({ state, model }) => state === "open" && !/embedding/.test(model));
  return open.find(({ model }) => model === DEFAULT_MODEL)?.model ?? open[0]?.model ??
    (lanes.length > 0 ? DEFAULT_MODEL : null);
}

async function makeCall(
  connection: Connection,
  model: string,
  now: () => number,
  signal: AbortSignal,
): Promise<CallFacts> {
  const before = now();
  const { status, body } = await callFunction(connection, "llm-invoke", {
    model,
    prompt: TEST_PROMPT,
    max_wait_ms: TEST_WAIT_MS,
    metadata: { source: "eve doctor" },
  }, { signal });
  return {
    ok: status === 200,
    model: body?.model ?? model,
    key: body?.key_alias ?? null,
    latencyMs: now() - before,
    code: status === 200 ? null : body?.error?.code ?? `status ${status}`,
    message: status === 200 ? null : body?.error?.message ?? null,
  };
}
