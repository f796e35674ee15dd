/** The examples of the README and of the pages that it points to run as they stand, and their tables say what is so. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasProgram } from "../harness/programs.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { readSettings } from "../../shared/runtime/settings.ts";
import { SIGNING_KEYS_VARIABLE } from "../../shared/tokens/signing_keys.ts";
import { makeTestFolder, type TestFolder } from "../harness/folders.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";
import { codeBlocks, readPage, section, tableNames } from "./pages.ts";

const FIRST_CALL = section(readPage("README.md"), "A first call");
const [CURL] = codeBlocks(FIRST_CALL, "sh") as [string];
const [LOAD_ENVIRONMENT] = CURL.split("\n") as [string];
const [PYTHON] = codeBlocks(FIRST_CALL, "python") as [string];
const [TYPESCRIPT, CLIENTS] = codeBlocks(FIRST_CALL, "ts") as [string, string];
const NATIVE = readPage("docs/native.md");
const EXAMPLES = section(NATIVE, "Examples");
const [SCHEMA] = codeBlocks(EXAMPLES, "js") as [string];
const [PATIENT] = codeBlocks(EXAMPLES, "python") as [string];

let stack: TestStack;
/** Stands in for the checkout: the examples are run in it, and find `.local/env`. */
let folder: TestFolder;

beforeAll(async () => {
  stack = await startTestStack();
  folder = await makeTestFolder();
  await Deno.mkdir(`${folder.path}/.local`);
  await Deno.writeTextFile(
    `${folder.path}/.local/env`,
    `SUPABASE_URL=${stack.url}\nSUPABASE_SECRET_KEY=${stack.keys.secret}\n`,
  );
});

afterAll(async () => {
  await stack?.stop();
  await folder?.remove();
});

/** Runs a script of the shell after the line that loads the environment; answers what it printed. */
async function shell(script: string): Promise<string> {
  const done = await new Deno.Command("sh", {
    args: ["-c", `${LOAD_ENVIRONMENT}\n${script}`],
    cwd: folder.path,
    stderr: "piped",
  }).output();
  expect(done.success, new TextDecoder().decode(done.stderr)).toBe(true);
  return new TextDecoder().decode(done.stdout);
}

/** Runs a program of JavaScript or TypeScript as the page tells to; answers what it printed. */
async function deno(name: string, program: string): Promise<string> {
  await Deno.writeTextFile(`${folder.path}/${name}`, program);
  return await shell(`"${Deno.execPath()}" run -A --cached-only --config "${CHECKOUT}/deno.json" ${name}`);
}

describe("figures", () => {
  const speed = readPage("docs/speed.md").text;
  const measured = ["docs/guarantees.md", "docs/faults.md"].map((path) => readPage(path).text).join("\n") +
    speed;
  const numbersIn = (text: string) =>
    [...text.matchAll(/\d[\d,]*(?:\.\d+)?/g)].map(([number]) => number.replaceAll(",", ""));
  const known = new Set(numbersIn(measured));
  /** The medians of a scenario, by contender, as the table of docs/speed.md has them. */
  const medians = (scenario: string) => {
    const [heads, row] = [/^\| scenario .*$/m, new RegExp(`^\\| \`${scenario}\`.*$`, "m")].map((line) =>
      line.exec(speed)![0].split("|").slice(2, -1).map((cell) => cell.trim())
    );
    return Object.fromEntries(heads!.map((name, n) => [name, Number.parseFloat(row![n]!)]));
  };
  const { straight, eve, portkey } = medians("closed_1_upstream_0_ms");

  test("of the README are those of the pages that say how they were measured", () => {
    const rows = section(readPage("README.md"), "What it guarantees").text.split("\n")
      .filter((line) => line.startsWith("| **"));
    expect(rows.length).toBeGreaterThan(5);
    const added = [(eve! - straight!).toFixed(1), (portkey! - straight!).toFixed(1)];
    const said = rows.flatMap((row) => numbersIn(row.split(" | ").at(-1)!));
    expect(said).toEqual(expect.arrayContaining(added));
    expect(said.filter((number) => !known.has(number) && !added.includes(number))).toEqual([]);
  });

  test("of docs/comparison.md are too", () => {
    const said = numbersIn(
      section(readPage("docs/comparison.md"), "Measured").text.replaceAll(/`[^`]+` [\d.]+/g, ""),
    );
    expect(said.length).toBeGreaterThan(4);
    expect(said.filter((number) => !known.has(number))).toEqual([]);
  });
});

test("the README is a page, not a reference", () => {
  expect(readPage("README.md").text.split("\n").length).toBeLessThan(131);
});

describe("the first call", () => {
  test.skipIf(!hasProgram("curl"))("with curl", async () => {
    const answer = JSON.parse(await shell(CURL));
    expect(answer).toMatchObject({ model: "gemma-4-31b-it", finish_reason: "STOP", attempts: 1 });
    // The emulator's, too, is an answer to the question.
    expect(answer.text).toBe("Hello");
  });

  test.skipIf(!hasProgram("python3"))("with Python", async () => {
    await Deno.writeTextFile(`${folder.path}/first_call.py`, PYTHON);
    expect(await shell("python3 first_call.py")).toBe("Hello\n");
  });

  test("with TypeScript", async () => {
    expect(await deno("first-call.ts", TYPESCRIPT)).toBe("Hello\n");
  });

  test("with OpenAI's client, and with Google's", async () => {
    const calls = `
      const model = "gemma-4-31b-it", question = "Say hello in one word.";
      const messages = [{ role: "user", content: question }];
      console.log((await openai.chat.completions.create({ model, messages })).choices[0].message.content);
      console.log((await google.models.generateContent({ model, contents: question })).text);
    `;
    expect(await deno("clients.ts", CLIENTS + calls)).toBe("Hello\nHello\n");
  });
});

describe("docs/endpoints.md", () => {
  test.skipIf(!hasProgram("curl"))("calls with the wire of OpenAI, and with Gemini's", async () => {
    const [openai, gemini] = codeBlocks(readPage("docs/endpoints.md"), "sh");
    expect(JSON.parse(await shell(openai!))).toMatchObject({
      object: "chat.completion",
      choices: [{ finish_reason: "stop" }],
    });
    expect(JSON.parse(await shell(gemini!))).toMatchObject({ candidates: [{ finishReason: "STOP" }] });
  });
});

describe("docs/native.md", () => {
  test("asks for JSON of a schema with supabase-js", async () => {
    const printed = await deno("schema.mjs", SCHEMA);
    expect(printed).toContain("Вечер романса");
    expect(printed).toMatch(/by demo-[abc]/);
  });

  test.skipIf(!hasProgram("python3"))("calls with Python, also after errors that pass", async () => {
    await Deno.writeTextFile(`${folder.path}/patient.py`, PATIENT);
    expect(await shell("python3 patient.py")).toMatch(/\S+ \d+ \d+\n$/);

    const overloaded = { kind: "status", error: "overloaded", times: 3 };
    await fetch(`${stack.emulatorUrl}/__control/faults`, {
      method: "POST",
      body: JSON.stringify([overloaded]),
    });
    expect(await shell("python3 patient.py")).toMatch(/\S+ \d+ \d+\n$/);
  });
});

describe("the tables", () => {
  test("the request's fields are those of the endpoint", async () => {
    const source = await Deno.readTextFile(`${CHECKOUT}/shared/endpoints/native/request.ts`);
    const body = /const body = z\.strictObject\(\{\n([^]*?)\n\}/.exec(source)![1]!;
    const fields = [...body.matchAll(/^ {2}([a-z_]+):/gm)].map((match) => match[1]!);
    expect(fields.length).toBeGreaterThan(10);
    const documented = section(NATIVE, "The request");
    expect(tableNames(documented)).toEqual(fields);
    const settings = /const generation = z\.looseObject\(\{\n([^]*?)\n\}\)/.exec(source)![1]!;
    for (const [, setting] of settings.matchAll(/^ {2}([a-z_]+):/gm)) {
      expect(documented.text).toContain(`\`${setting}\``);
    }
  });

  test("the answer's fields and headers are those that come", async () => {
    const response = await stack.invoke("llm-invoke", { model: "gemma-4-31b-it", prompt: "Say hello." });
    const answer = await response.json();
    const documented = section(NATIVE, "The answer");
    const names = tableNames(documented);
    expect(names.filter((name) => !/-/.test(name)).sort()).toEqual(Object.keys(answer).sort());
    for (const field of [...Object.keys(answer.usage), ...Object.keys(answer.limits)]) {
      expect(documented.text).toContain(`\`${field}\``);
    }
    const sent = [...response.headers.keys()].filter((name) => name.startsWith("x-ratelimit-"));
    expect(names.filter((name) => name.startsWith("x-ratelimit-")).sort()).toEqual(sent.sort());
    expect(names).toEqual(expect.arrayContaining(["retry-after", "retry-after-ms"]));
  });

  test("the environment's variables are those that are read, with their defaults", async () => {
    const documented = readPage("docs/settings.md");
    const names = new Set(tableNames(documented));
    const read = async (path: string) => await Deno.readTextFile(`${CHECKOUT}/${path}`);
    const ofStack = (await read("local/settings.ts")).matchAll(
      /\b(EVE_[A-Z_]+|GOOGLE_API_[A-Z]+(_[A-Z]+)*)/g,
    );
    const ofFunction = (await read("shared/runtime/settings.ts")).matchAll(/^ {2}([A-Z]+(?:_[A-Z]+)+):/gm);
    for (const [, name] of [...ofStack, ...ofFunction]) expect(names).toContain(name);
    expect(names).toContain(SIGNING_KEYS_VARIABLE);

    const settings = readSettings((name) =>
      ({ SUPABASE_URL: "http://127.0.0.1", SUPABASE_SECRET_KEYS: '{"default":"sb_secret_x"}' })[name]
    );
    const defaults = Object.values(settings).filter((value) => typeof value === "number");
    const numbers = [...documented.text.matchAll(/^\| `EVE_\w+` .*\| (\d+) +\|$/gm)].map((match) =>
      Number(match[1])
    );
    expect(numbers).toEqual(expect.arrayContaining(defaults));
  });

  test("the folders are there, and every one of shared/ is on the map", async () => {
    const folders = tableNames(section(readPage("docs/contributing.md"), "Map of folders"));
    for (const name of folders) expect((await Deno.stat(`${CHECKOUT}/${name}`)).isDirectory, name).toBe(true);
    const inShared = [...Deno.readDirSync(`${CHECKOUT}/shared`)].map(({ name }) => `shared/${name}/`);
    expect(folders.filter((name) => name.startsWith("shared/")).sort()).toEqual(inShared.sort());
  });
});
