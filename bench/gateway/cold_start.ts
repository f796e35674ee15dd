/**
 * What a function costs before its first answer, in fresh processes: how much there is to load, how long its modules take
 * to be imported, and how long from then until somebody has an answer.
 */
import { CHECKOUT } from "../../local/paths.ts";
import { functionArguments, functionNames } from "../../local/functions_host.ts";
import { median } from "../statistics.ts";
import { MODEL } from "./contenders.ts";
import { round } from "./figures.ts";

/** Fresh processes for each figure, of which the median is taken. */
const STARTS = 5;

export interface ColdStart {
  /** All modules in one file, minified, as `deno bundle` makes it; null where it could not be made. */
  bundle_kb: number | null;
  gzip_kb: number | null;
  /** From the first import to the last module's end. */
  import_ms: number;
  /** From the import's end: a chat completion of llm-invoke; elsewhere a stranger is turned away. */
  first_answer_ms: number;
  /** Both together, and the start of the process before them. */
  process_to_answer_ms: number;
}

/** @param environment what functions see; the database and the upstream in it must be running */
export async function coldStarts(
  environment: Record<string, string>,
  say: (line: string) => void,
): Promise<Record<string, ColdStart>> {
  const folder = `${CHECKOUT}/supabase/functions`;
  const found: Record<string, ColdStart> = {};
  for (const name of await functionNames(folder)) {
    const size = await bundleSize(`${folder}/${name}/index.ts`);
    const ways = name === "llm-invoke" ? ["rest", "direct"] : [""];
    for (const way of ways) {
      const label = way === "" ? name : `${name} (${way})`;
      found[label] = {
        ...size,
        ...await startsOf(name, {
          ...environment,
          EVE_LEDGER_TRANSPORT: way || "rest",
        }),
      };
      say(`cold start of ${label}: ${JSON.stringify(found[label])}`);
    }
  }
  return found;
}

async function bundleSize(
  entry: string,
): Promise<{ bundle_kb: number | null; gzip_kb: number | null }> {
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: [
      "bundle",
      "--quiet",
      `--config=${CHECKOUT}/deno.json`,
      "--platform=deno",
      "--minify",
      entry,
    ],
    cwd: CHECKOUT,
    stdout: "piped",
    stderr: "null",
  }).output();
  if (!success) return { bundle_kb: null, gzip_kb: null };
  const packed = new Blob([stdout]).stream().pipeThrough(
    new CompressionStream("gzip"),
  );
  const gzipped = (await new Response(packed).arrayBuffer()).byteLength;
  return {
    bundle_kb: Math.round(stdout.byteLength / 1024),
    gzip_kb: Math.round(gzipped / 1024),
  };
}

type Start = Pick<
  ColdStart,
  "import_ms" | "first_answer_ms" | "process_to_answer_ms"
>;

async function startsOf(
  name: string,
  environment: Record<string, string>,
): Promise<Start> {
  const entry = await Deno.makeTempFile({ prefix: "eve-cold-", suffix: ".ts" });
  try {
    await Deno.writeTextFile(entry, entryModule(name, environment));
    const starts: Start[] = [];
    // The first of them compiles what no process has loaded before; a deployed function has been compiled.
    for (let n = 0; n <= STARTS; n++) {
      const start = await oneStart(entry, environment);
      if (n > 0) starts.push(start);
    }
    const middle = (figure: keyof Start) => round(median(starts.map((start) => start[figure])));
    return {
      import_ms: middle("import_ms"),
      first_answer_ms: middle("first_answer_ms"),
      process_to_answer_ms: middle("process_to_answer_ms"),
    };
  } finally {
    await Deno.remove(entry);
  }
}

async function oneStart(
  entry: string,
  environment: Record<string, string>,
): Promise<Start> {
  const since = performance.now();
  const process = new Deno.Command(Deno.execPath(), {
    args: functionArguments(`${CHECKOUT}/deno.json`, entry),
    env: environment,
    clearEnv: true,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const { stdout, stderr } = await process.output();
  const took = performance.now() - since;
  const said = new TextDecoder().decode(stdout).split("\n").findLast((line) =>
    line.startsWith('{"import_ms"')
  );
  if (said === undefined) {
    throw new Error(
      `no answer: ${new TextDecoder().decode(stderr).slice(-500)}`,
    );
  }
  const { import_ms, first_answer_ms, status } = JSON.parse(said);
  if (status >= 500) {
    throw new Error(`the first answer was ${status}`);
  }
  return { import_ms, first_answer_ms, process_to_answer_ms: took };
}

/** A literal import, as an entry module has it, but with a look at the clock before it. */
function entryModule(
  name: string,
  environment: Record<string, string>,
): string {
  const index = new URL(`file://${CHECKOUT}/supabase/functions/${name}/index.ts`).href;
  const key = (JSON.parse(environment.SUPABASE_SECRET_KEYS ?? "{}") as Record<
    string,
    string
  >).default ?? "";
  const [path, headers] = name === "llm-invoke"
    ? ["/llm-invoke/openai/v1/chat/completions", {
      authorization: `Bearer ${key}`,
      "content-type": "application/json",
    }]
    : [`/${name}`, {}];
  const body = JSON.stringify({
    model: MODEL,
    messages: [{ role: "user", content: "Hello" }],
  });
  return `const begun = performance.now();
const module = await import(${JSON.stringify(index)});
const imported = performance.now();
const response = await module.default.fetch(new Request(${JSON.stringify(`http://127.0.0.1${path}`)}, {
  method: "POST", headers: ${JSON.stringify(headers)}, body: ${JSON.stringify(body)},
}));
await response.text();
const answered = performance.now();
console.log(JSON.stringify({ import_ms: imported - begun, first_answer_ms: answered - imported, status: response.status }));
Deno.exit(0);
`;
}
