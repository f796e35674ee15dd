/**
 * The table of docs/compatibility.md: which client does what. The rows of Python's packages are what a run of them says; those of
 * JavaScript's are the titles of tests that run beside it, so that a row which is not so is a test that fails.
 */
import { CHECKOUT } from "../../local/paths.ts";

export interface Row {
  client: string;
  version: string;
  feature: string;
  result: string;
}

/** Files with tests of packages, which each `describe` names. */
const JAVASCRIPT = [
  "openai/openai_client",
  "openai/ai_sdk_openai",
  "openai/ai_sdk",
  "openai/agents",
  "langchain",
  "gemini/google_genai",
  "gemini/cached_contents",
  "gemini/google_generative_ai",
  "gemini/ai_sdk",
  "anthropic/anthropic_client",
  "anthropic/ai_sdk_anthropic",
];

const read = (path: string) => Deno.readTextFileSync(`${CHECKOUT}/${path}`);

export function rowsOfJavascript(): Row[] {
  const { devDependencies, dependencies } = JSON.parse(read("package.json"));
  return JAVASCRIPT.flatMap((file) => {
    const source = read(`tests/endpoints/${file}.ts`);
    const [, ...clients] = source.split(/^ {2}describe\("/m);
    return clients.flatMap((tests) => {
      const client = tests.slice(0, tests.indexOf('"'));
      const titles = [...tests.matchAll(/^ {4}test(?:\.each\([\s\S]*?\))?\(\s*"((?:[^"\\]|\\.)*)"/gm)];
      return titles.map(([, title]) => ({
        client,
        version: (devDependencies[client] ?? dependencies[client] ?? "") as string,
        feature: title!.replace(/^\[[^\]]*\] /, ""),
        result: "works",
      }));
    });
  });
}

/** What a run of Python's packages says. `refusals`: how a client was refused, by file and test. */
export interface PythonRun {
  /** Each file has the tests of one package, and its name. */
  files: readonly string[];
  tests: (file: string) => string[];
  passed: (file: string, test: string) => boolean;
  refusals: ReadonlyMap<string, string>;
}

export function rowsOfPython(run: PythonRun, requirements: string): Row[] {
  const versions = new Map(
    [...requirements.matchAll(/^([a-z0-9-]+)==(\S+)$/gm)].map(([, name, version]) => [name!, version!]),
  );
  return run.files.flatMap((file) => {
    const client = file.replace(/_package$/, "").replaceAll("_", "-");
    return run.tests(file).map((name) => ({
      client,
      version: versions.get(client) ?? versions.get(`${client}-slim`) ?? "",
      feature: name.replace(/^test_/, "").replaceAll("_", " "),
      result: !run.passed(file, name) ? "FAILS" : run.refusals.get(`${file} ${name}`) ?? "works",
    }));
  });
}

/** The part of the page that a run of Python's packages has written. */
function pythonNow(): string {
  return /^## Python\n\n([\s\S]*?)\n*^## JavaScript$/m.exec(read("docs/compatibility.md"))?.[1] ?? "";
}

/** The page, as `deno fmt` has it. @param python null: as it is, where nobody has run them */
export async function page(python: Row[] | null, javascript: Row[]): Promise<string> {
  const table = (rows: Row[]) =>
    [
      "| client | version | what it does | result |",
      "| --- | --- | --- | --- |",
      ...rows.map(({ client, version, feature, result }) =>
        `| ${
          [`\`${client}\``, version, feature, result].map((cell) => cell.replaceAll("|", "\\|")).join(" | ")
        } |`
      ),
    ].join("\n");
  const text = `# Which clients work, and with what?

This page is written by the tests: the packages themselves, as their registries have them, call a running gateway
with the emulator of Google's API behind it. \`works\` is a test that passed; anything else is what the client was
told, word by word. \`npm test -- tests/endpoints/python.test.ts -u\` writes it again, \`npm test -- tests/unit/compatibility.test.ts -u\`
the part that needs no Python.

## Python

${python === null ? pythonNow() : table(python)}

## JavaScript

In Deno and in Node 22, which CI fetches as npm's package \`node\`: \`CI=1 npm test -- tests/endpoints/node.test.ts\`.

${table(javascript)}
`;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["fmt", "--quiet", "--config", `${CHECKOUT}/deno.json`, "--ext", "md", "-"],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(text));
  await writer.close();
  const { success, stdout, stderr } = await child.output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}
