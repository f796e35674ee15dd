/** Who is measured: the upstream without a gateway, this gateway by several ways, and Portkey's. */
import postgres from "postgres";
import { CHECKOUT } from "../../local/paths.ts";
import { freePorts } from "../../local/ports.ts";
import { removeHomeElsewhere } from "../../local/postgres_place.ts";
import { makeTestFolder } from "../../tests/harness/folders.ts";
import type { Target } from "./load.ts";
import { type Cleanups, memoryMb, spawn, withChildren } from "./processes.ts";
import { takeBooksAway } from "./without_books.ts";

export const MODEL = "gemma-4-31b-it";
/** What the upstream says, in a whole answer and in each piece of a stream. */
const CONTENT = "Concert, 14 February, 600";

export interface Contender {
  target(stream: boolean): Target;
  /** What it takes of the machine's memory, in MB. */
  memory(): Record<string, number>;
}

const CHAT = (stream: boolean) => ({
  model: MODEL,
  messages: [{ role: "user", content: "Hello" }],
  stream,
});

export interface Upstream {
  url: string;
  /** How long each answer takes from now on. */
  answerAfter(ms: number): Promise<void>;
}

export async function startUpstream(cleanups: Cleanups): Promise<Upstream> {
  const { process, said } = spawn(Deno.execPath(), [
    "run",
    "--allow-net",
    `${CHECKOUT}/bench/gateway/upstream.ts`,
  ]);
  cleanups.add(() => process.kill("SIGKILL"));
  const url = (await said(/^listening (.+)$/))[1]!;
  return {
    url,
    answerAfter: async (ms) => {
      await (await fetch(`${url}/__delay`, {
        method: "POST",
        body: String(ms),
      })).body?.cancel();
    },
  };
}

/** The upstream itself, in its own API. */
export function straight({ url }: Upstream): Contender {
  return {
    target: (stream) => ({
      url: `${url}/v1beta/models/${MODEL}:${stream ? "streamGenerateContent?alt=sse" : "generateContent"}`,
      headers: {},
      body: { contents: [{ role: "user", parts: [{ text: "Hello" }] }] },
      ...(stream && { content: CONTENT }),
    }),
    memory: () => ({}),
  };
}

export interface Eve {
  /** At the function's own address, as a function is reached behind its platform. */
  function: Contender;
  /** At the local stack's reverse proxy, which stands for the platform's own proxies. */
  origin: Contender;
  /** What the function's process sees, for others like it. */
  environment: Record<string, string>;
}

/** The whole stack in processes of its own, with limits out of the way. `books: false`: without what it keeps books with. */
export async function startEve(
  upstream: Upstream,
  transport: "rest" | "direct",
  cleanups: Cleanups,
  { books = true } = {},
): Promise<Eve> {
  const folder = await makeTestFolder();
  const dataDir = `${folder.path}/data`; // The stack locks it, and the test folder is locked already.
  const [port] = freePorts(3);
  const { process, said } = spawn(Deno.execPath(), [
    "run",
    "-A",
    "--unstable-no-legacy-abort",
    `${CHECKOUT}/local/main.ts`,
  ], {
    EVE_PORT: String(port),
    EVE_DATA_DIR: dataDir,
    GOOGLE_API_BASE_URL: upstream.url,
    EVE_LEDGER_TRANSPORT: transport,
  });
  cleanups.add(async () => {
    await removeHomeElsewhere(dataDir);
    await folder.remove();
  });
  cleanups.add(async () => {
    process.kill("SIGTERM");
    await process.status;
  });
  await said(/^ready$/);
  const env = await variables(`${dataDir}/env`);
  const sql = postgres(env.DATABASE_URL!, { max: 1 });
  await sql`update public.google_ai_model_limits set rpm = null, tpm = null, rpd = null`;
  if (!books) await takeBooksAway(sql, MODEL);
  await sql.end();

  const state: State = JSON.parse(
    await Deno.readTextFile(`${dataDir}/stack.json`),
  );
  const llmInvoke = state.functions["llm-invoke"];
  if (llmInvoke === undefined) throw new Error("the stack runs no llm-invoke");
  const at = (url: string): Contender => ({
    target: (stream) => ({
      url: `${url}/llm-invoke/openai/v1/chat/completions`,
      headers: { authorization: `Bearer ${env.SUPABASE_SECRET_KEY}` },
      body: CHAT(stream),
      ...(stream && { content: CONTENT }),
    }),
    memory: () => ({
      function: memoryMb([llmInvoke.pid]),
      database: memoryMb(withChildren(state.postgres.pid)),
      local_stack: memoryMb(withChildren(process.pid)),
    }),
  });
  return {
    function: at(llmInvoke.url),
    origin: at(`${env.SUPABASE_URL}/functions/v1`),
    environment: await environmentOf(llmInvoke.pid),
  };
}

interface State {
  postgres: { pid: number };
  functions: Record<string, { pid: number; url: string }>;
}

async function variables(path: string): Promise<Record<string, string>> {
  return pairs((await Deno.readTextFile(path)).trim().split("\n"));
}

async function environmentOf(pid: number): Promise<Record<string, string>> {
  return pairs(
    (await Deno.readTextFile(`/proc/${pid}/environ`)).split("\0").filter((
      line,
    ) => line !== ""),
  );
}

function pairs(lines: string[]): Record<string, string> {
  return Object.fromEntries(lines.map((line) => {
    const at = line.indexOf("=");
    return [line.slice(0, at), line.slice(at + 1)];
  }));
}

const PORTKEY = `${CHECKOUT}/bench/node_modules/@portkey-ai/gateway/build/start-server.js`;

export async function startPortkey(
  upstream: Upstream,
  cleanups: Cleanups,
): Promise<Contender> {
  const [port] = freePorts(1);
  const { process, said } = spawn("node", [
    PORTKEY,
    `--port=${port}`,
    "--headless",
  ]);
  cleanups.add(async () => {
    process.kill("SIGKILL");
    await process.status;
  });
  await said(/Ready for connections/);
  return {
    target: (stream) => ({
      url: `http://127.0.0.1:${port}/v1/chat/completions`,
      headers: {
        "authorization": "Bearer key",
        "x-portkey-provider": "google",
        "x-portkey-custom-host": upstream.url,
      },
      body: CHAT(stream),
      ...(stream && { content: CONTENT }),
    }),
    memory: () => ({ gateway: memoryMb([process.pid]) }),
  };
}
