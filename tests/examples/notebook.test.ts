/** The notebook of examples/: from its enrolment to its plot, and on to the call that is refused. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { dirname } from "node:path";
import { CHECKOUT } from "../../local/paths.ts";
import { codeBlocks, readPage, section } from "../docs/pages.ts";
import { makeTestFolder, type TestFolder } from "../harness/folders.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";
import { PACKAGES_PYTHON, pythonThat } from "../harness/python.ts";
import { runEve } from "./example_stack.ts";

const NOTEBOOK = `${CHECKOUT}/examples/kaggle_festivals.ipynb`;
const PNG_MAGIC = [0x89, 0x50, 0x4e, 0x47];

const ANY = pythonThat("pass");
/** The one with the packages too, where they are: it sees Debian's as well. */
const PLOTTING = pythonThat("import matplotlib", PACKAGES_PYTHON === null ? [] : [PACKAGES_PYTHON]);
/** CI installs it, see .ci/run: a test that is skipped there would never prove anything. */
const SKIPPED = PLOTTING === undefined && !Deno.env.get("CI");
const WHY = SKIPPED ? " (skipped: no Python here has matplotlib; apt-get install python3-matplotlib)" : "";

let stack: TestStack;
let folder: TestFolder;
beforeAll(async () => {
  stack = await startTestStack({ emulator: { latencyMs: 5 } });
  folder = await makeTestFolder();
  // As on Kaggle: the helper lies beside the notebook, and nothing else of the checkout.
  await Deno.copyFile(`${CHECKOUT}/clients/python/eve_gateway.py`, `${folder.path}/eve_gateway.py`);
});
afterAll(async () => {
  await stack?.stop();
  await folder?.remove();
});

test("is a notebook of format 4 without outputs and without a secret", async () => {
  const text = await Deno.readTextFile(NOTEBOOK);
  const notebook = JSON.parse(text);
  expect([notebook.nbformat, notebook.nbformat_minor]).toEqual([4, 5]);
  const ids = notebook.cells.map((cell: { id: string }) => cell.id);
  expect(new Set(ids).size).toBe(ids.length);
  for (const cell of notebook.cells) {
    if (cell.cell_type === "code") expect(cell).toMatchObject({ outputs: [], execution_count: null });
  }
  expect(text).not.toMatch(/eve_(?:notebook|service)_[0-9a-f]{16}|AIza|sb_secret_/);
});

test.skipIf(ANY === undefined)(
  "runs without matplotlib, and leaves nothing that git would take",
  async () => {
    const { secret } = await runEve(
      stack,
      ...["consumers", "add", "elsewhere", "--kind", "notebook", "--models", "gemma-4-31b-it"],
    );
    // Found before the real one, wherever that may be.
    const without = await Deno.makeTempDir({ dir: folder.path });
    await Deno.writeTextFile(`${without}/matplotlib.py`, "raise ImportError('not here')\n");
    const checkout = await Deno.makeTempDir({ dir: folder.path });
    for (const path of [".gitignore", "clients/python/eve_gateway.py", "examples/kaggle_festivals.ipynb"]) {
      await Deno.mkdir(dirname(`${checkout}/${path}`), { recursive: true });
      await Deno.copyFile(`${CHECKOUT}/${path}`, `${checkout}/${path}`);
    }
    const run = async (program: string, args: string[], env: Record<string, string> = {}) => {
      const done = await new Deno.Command(program, { args, cwd: checkout, env }).output();
      const [said, complained] = [done.stdout, done.stderr].map((bytes) => new TextDecoder().decode(bytes));
      expect(done.success, `${said}\n${complained}`).toBe(true);
      return said!;
    };
    await run("git", ["init", "--quiet"]);
    await run("git", ["add", "."]);
    const said = await run(
      ANY!,
      [`${CHECKOUT}/examples/run_notebook.py`, "examples/kaggle_festivals.ipynb"],
      {
        EVE_GATEWAY_URL: stack.url,
        EVE_GATEWAY_SECRET: secret,
        PYTHONPATH: without,
        PYTHONIOENCODING: "utf-8",
      },
    );
    expect(said).toMatch(/text +tokens in +tokens out +waited, s\n +1 +\d+ +\d+ +\d+\.\d\n/);
    expect(said).toContain("The notebook has run.");
    // The helper's bytecode and the log of its calls are there, and are nobody's commit.
    await Deno.stat(`${checkout}/calls.jsonl`);
    await Deno.writeTextFile(`${checkout}/examples/festivals.png`, "where matplotlib is");
    expect(await run("git", ["status", "--porcelain", "--untracked-files=all"])).not.toMatch(/^\?\?/m);
  },
);

test.skipIf(ANY === undefined)("the Python of docs/consumers.md runs as it stands", async () => {
  const { secret } = await runEve(
    stack,
    ...["consumers", "add", "of-the-page", "--kind", "notebook", "--models", "gemma-4-31b-it"],
  );
  const [block] = codeBlocks(section(readPage("docs/consumers.md"), "A notebook calls"), "py");
  const page = await Deno.makeTempDir({ dir: folder.path });
  await Deno.copyFile(`${CHECKOUT}/clients/python/eve_gateway.py`, `${page}/eve_gateway.py`);
  await Deno.writeTextFile(`${page}/of_the_page.py`, block!);
  const done = await new Deno.Command(ANY!, {
    args: ["of_the_page.py"],
    cwd: page,
    env: { EVE_GATEWAY_URL: stack.url, EVE_GATEWAY_SECRET: secret, PYTHONIOENCODING: "utf-8" },
  }).output();
  const [said, complained] = [done.stdout, done.stderr].map((bytes) => new TextDecoder().decode(bytes));
  expect(done.success, complained).toBe(true);
  expect(said!.match(/^\{'title': .*\}$/gm), said).toHaveLength(2);
});

test.skipIf(SKIPPED)(
  `runs to its plot, and \`eve tokens revoke\` stops it at the next call${WHY}`,
  async () => {
    expect(PLOTTING, "CI needs python3-matplotlib: see install_programs in .ci/run").toBeDefined();
    const { secret } = await runEve(
      stack,
      ...["consumers", "add", "kaggle", "--kind", "notebook", "--models", "gemma-4-31b-it"],
      ...["--class", "batch", "--ttl", "2h"],
    );
    const kernel = new Deno.Command(PLOTTING!, {
      args: [`${CHECKOUT}/examples/run_notebook.py`, NOTEBOOK, "--stay"],
      cwd: folder.path,
      env: {
        EVE_GATEWAY_URL: stack.url,
        EVE_GATEWAY_SECRET: secret,
        MPLBACKEND: "Agg",
        MPLCONFIGDIR: folder.path,
        PYTHONDONTWRITEBYTECODE: "1",
        PYTHONIOENCODING: "utf-8",
      },
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const output = kernel.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const input = kernel.stdin.getWriter();
    let said = "";
    const until = async (text: string) => {
      while (!said.includes(text)) {
        const { value, done } = await output.read();
        if (done) throw new Error(`It ended before it said "${text}":\n${said}`);
        said += value;
      }
    };
    const cell = (source: string) => input.write(new TextEncoder().encode(`${source}\n`));

    try {
      await until("The notebook has run.");
      expect(said).not.toContain("failed:");
      if (PACKAGES_PYTHON !== null) expect(said).toMatch(/by google-generativeai: \{[^]*Территория джаза/);
      expect(said).toMatch(/2026-08-08\S* \| .*Территория джаза/);
      const plot = await Deno.readFile(`${folder.path}/festivals.png`);
      expect([...plot.slice(0, 4)]).toEqual(PNG_MAGIC);
      const calls = (await Deno.readTextFile(`${folder.path}/calls.jsonl`)).trim().split("\n")
        .map((line) => JSON.parse(line));
      expect(calls.map((call) => call.outcome)).toEqual(Array(6).fill("answered"));

      await cell('print("before:", bool(eve.generate("Привет").text))');
      await until("before: True");
      const { revoked } = await runEve(
        stack,
        "tokens",
        "revoke",
        "--consumer",
        "kaggle",
        "--reason",
        "published",
      );
      expect(revoked).toHaveLength(1);
      await cell('eve.generate("Привет")');
      await until("[token_revoked]");
    } finally {
      await input.close().catch(() => {});
      await output.cancel().catch(() => {});
      await kernel.status;
    }
  },
);
