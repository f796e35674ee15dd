/** A whole stack of its own for a test file: free ports, an empty folder, the emulator as the upstream. */
import postgres from "postgres";
import { inject } from "vitest";
import { freePorts } from "./ports.ts";
import { removeHomeElsewhere } from "../../local/postgres_place.ts";
import { type Stack, type StackOptions, startStack } from "../../local/stack.ts";
import { copyTemplate } from "./cluster_template.ts";
import { makeTestFolder } from "./folders.ts";

/** A copy's operations are expected to run from now on, and not since its template was made. */
async function beginNow(databaseUrl: string): Promise<void> {
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
  try {
    await sql`update eve.maintenance_expected set since = now()`;
  } finally {
    await sql.end();
  }
}

/** By default a database is as good as down after eight seconds; on a busy machine it may be at work all the same. */
const RPC_TIMEOUT_MS = "20000";

export interface TestStack extends Stack {
  dataDir: string;
  /** Lines about the parts: restarts, migrations. */
  logged: string[];
  /** What the functions and the emulator printed, as `[part] line`. */
  printed: string[];
  /** A request to a function with the secret key. `path` begins with the function's name. */
  invoke(path: string, body?: unknown, init?: RequestInit): Promise<Response>;
}

/**
 * Starts it (a second or two). Call it in `beforeAll`, and `stop` in `afterAll`: it removes the folder as well.
 * The processes end with the test process in any case.
 */
export async function startTestStack(options: Partial<StackOptions> = {}): Promise<TestStack> {
  const folder = await makeTestFolder({ inMemory: true });
  const dataDir = `${folder.path}/data`;
  const [port] = freePorts(3);
  const logged: string[] = [];
  const printed: string[] = [];
  const remove = async () => {
    await removeHomeElsewhere(dataDir);
    await folder.remove();
  };
  try {
    const template = options.migrationsFrom ? undefined : inject("clusterTemplate");
    if (template) await copyTemplate(template, dataDir);
    const stack = await startStack({
      dataDir,
      port: port!,
      durable: false,
      // A test that wants the schedule says so: the others count requests, rows and calls.
      schedule: false,
      // Most tests call only the one that is not here.
      startLate: ["admin", "api", "issue-kaggle-token", "maintenance", "telegram", "worker"],
      log: (line) => logged.push(line),
      output: (part, line) => part !== "postgres" && printed.push(`[${part}] ${line}`),
      ...options,
      env: { EVE_RPC_TIMEOUT_MS: RPC_TIMEOUT_MS, ...options.env },
    });
    if (template) await beginNow(stack.databaseUrl);
    return {
      ...stack,
      dataDir,
      logged,
      printed,
      invoke: (path, body, init) =>
        fetch(`${stack.url}/functions/v1/${path}`, {
          method: "POST",
          body: body === undefined ? undefined : JSON.stringify(body),
          ...init,
          headers: { "apikey": stack.keys.secret, "content-type": "application/json", ...init?.headers },
        }),
      async stop() {
        await stack.stop();
        await remove();
      },
    };
  } catch (error) {
    await remove();
    throw error;
  }
}
