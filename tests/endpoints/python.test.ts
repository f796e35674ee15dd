/** Python's own packages against the running stack: each file of `python/` is a package, each of its tests is one here. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { mintConsumerSecret } from "../../shared/tokens/consumer_secret.ts";
import { createAdmin } from "../../shared/database/admin.ts";
import { rpcTransport } from "../../shared/database/transport/rpc_transport.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { notebookSnippet, snippetOf } from "../../console/src/parts/snippets.ts";
import { compiledOnce, FRAMEWORKS_PYTHON, PACKAGES_PYTHON } from "../harness/python.ts";
import { page, rowsOfJavascript, rowsOfPython } from "./compatibility.ts";
import { closeTestGateway, type OpenedGateway, openTestGateway } from "./opened_gateway.ts";

const FOLDER = `${CHECKOUT}/tests/endpoints/python`;
const FILES = [
  "anthropic_package",
  "openai_package",
  "google_genai_package",
  "google_generativeai_package",
  "supabase_package",
];
/** They stand on OpenAI's or Google's package, want other versions of those, and are slow to import: one process runs them all. */
const FRAMEWORKS = [
  "langchain_openai_package",
  "langchain_google_genai_package",
  "litellm_package",
  "llama_index_llms_openai_package",
  "instructor_package",
  "pydantic_ai_package",
  "llm_package",
];

describe.skipIf(PACKAGES_PYTHON === null)("Python's packages", () => {
  let gateway: OpenedGateway;
  let token: string;
  /** Stands before the stack for tests in which a second must not be over too soon: see `busy_for_a_second`. */
  let front: Deno.HttpServer<Deno.NetAddr>;
  beforeAll(async () => {
    gateway = await openTestGateway();
    const { text, keyId, proof } = await mintConsumerSecret("service");
    await createAdmin(rpcTransport({ url: gateway.stack.url, secretKey: gateway.key }))
      .addConsumer({ name: "python", kind: "service", keyId, proof });
    token = text;
    let stopping = fetch;
    front = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
      const { pathname, search } = new URL(request.url);
      if (pathname !== "/stop") return await stopping(`${gateway.stack.url}${pathname}${search}`, request);
      stopping = await gateway.stoppingClock();
      return new Response();
    });
  });
  afterAll(async () => {
    await front?.shutdown();
    await closeTestGateway(gateway);
  });

  test("programs that the console shows run as they stand", async () => {
    await gateway.clear();
    const { text, keyId, proof } = await mintConsumerSecret("notebook");
    await createAdmin(rpcTransport({ url: gateway.stack.url, secretKey: gateway.key }))
      .addConsumer({ name: "notebook-of-the-console", kind: "notebook", keyId, proof });
    const target = { supabaseUrl: gateway.stack.url, functionName: "llm-invoke", secret: token };
    const body = { model: "gemma-4-31b-it", prompt: `Say "hello" in O'Brien's words.`, system: "Be brief." };
    for (
      const program of [
        snippetOf("openai", target, body),
        snippetOf("google", target, body),
        snippetOf("google", { ...target, secret: null }, body),
        notebookSnippet({ ...target, secret: text }, body.prompt),
      ]
    ) {
      const { success, stdout, stderr } = await new Deno.Command(PACKAGES_PYTHON!, {
        args: ["-c", program],
        env: {
          EVE_SECRET: token,
          PYTHONPATH: `${CHECKOUT}/clients/python`,
          ...compiledOnce(PACKAGES_PYTHON!),
        },
      }).output();
      expect(success, `${program}\n${new TextDecoder().decode(stderr)}`).toBe(true);
      expect(new TextDecoder().decode(stdout).trim(), program).not.toBe("");
    }
  });

  /** Once each, whichever of their tests is asked for first. */
  const runs = new Map<string, Promise<string>>();
  const refusals = new Map<string, string>();
  const said = (files: readonly string[]): Promise<string> => {
    const name = files.join();
    const run = runs.get(name) ?? python(files);
    runs.set(name, run);
    return run;
  };

  async function python(files: readonly string[]): Promise<string> {
    await gateway.clear();
    const scratch = await Deno.makeTempDir();
    const isFrameworks = files === FRAMEWORKS;
    const interpreter = isFrameworks ? FRAMEWORKS_PYTHON! : PACKAGES_PYTHON!;
    const { stderr } = await new Deno.Command(interpreter, {
      args: ["-m", "unittest", "--verbose", "--buffer", ...files],
      cwd: isFrameworks ? `${FOLDER}/frameworks` : FOLDER,
      env: {
        EVE_GATEWAY_URL: gateway.stack.url,
        EVE_EMULATOR_URL: gateway.stack.emulatorUrl!,
        EVE_FRONT_URL: `http://127.0.0.1:${front.addr.port}`,
        EVE_TOKEN: token,
        EVE_SCRATCH: scratch,
        EVE_REFUSALS: `${scratch}/refusals`,
        ...compiledOnce(interpreter),
        PYTHONIOENCODING: "utf-8",
        PYTHONWARNINGS: "ignore",
      },
      stdout: "null",
    }).output();
    const noted = await Deno.readTextFile(`${scratch}/refusals`).catch(() => "");
    for (const line of noted.split("\n").filter((line) => line !== "")) {
      const { file, test, said } = JSON.parse(line);
      refusals.set(`${file} ${test}`, said);
    }
    await Deno.remove(scratch, { recursive: true });
    return new TextDecoder().decode(stderr);
  }

  describe.each(FILES)("%s", (file) => {
    test.each(testsOf(file))("%s", async (name) => {
      const text = await said([file]);
      expect(passed(text, file, name), text).toBe(true);
    });
  });

  describe("answers are as the published contracts have them", () => {
    test.each(testsOf("contract"))("%s", async (name) => {
      const text = await said(["contract"]);
      expect(passed(text, "contract", name), text).toBe(true);
    });
  });

  describe.skipIf(FRAMEWORKS_PYTHON === null).each(FRAMEWORKS)("%s", (file) => {
    test.each(testsOf(file))("%s", async (name) => {
      const text = await said(FRAMEWORKS);
      expect(passed(text, file, name), text).toBe(true);
    });
  });

  test.skipIf(FRAMEWORKS_PYTHON === null)("docs/compatibility.md says what came of it", async () => {
    const rows = [];
    for (const [files, list] of [[FILES, "requirements"], [FRAMEWORKS, "frameworks"]] as const) {
      const texts = new Map<string, string>();
      for (const file of files) texts.set(file, await said(files === FRAMEWORKS ? FRAMEWORKS : [file]));
      const run = {
        files,
        tests: testsOf,
        passed: (file: string, test: string) => passed(texts.get(file)!, file, test),
        refusals,
      };
      rows.push(...rowsOfPython(run, await Deno.readTextFile(`${CHECKOUT}/tests/python/${list}.txt`)));
    }
    await expect(await page(rows, rowsOfJavascript())).toMatchFileSnapshot(
      `${CHECKOUT}/docs/compatibility.md`,
    );
  });
});

/** A notebook that has the registry installs it; one that has not takes the file. */
test.skipIf(FRAMEWORKS_PYTHON === null)(
  "clients/python is a wheel, with types, and each module under its name",
  async () => {
    const folder = await Deno.makeTempDir();
    const run = async (...args: string[]) => {
      const { success, stdout, stderr } = await new Deno.Command(FRAMEWORKS_PYTHON!, { args, cwd: folder })
        .output();
      expect(success, new TextDecoder().decode(stderr)).toBe(true);
      return new TextDecoder().decode(stdout);
    };
    const pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"];
    // Copied: a build leaves nothing in the checkout.
    const source = `${folder}/source`;
    await Deno.mkdir(source);
    for (
      const file of [
        "pyproject.toml",
        "py.typed",
        "eve_gateway.py",
        "eve_posts.py",
        "local_journal.py",
        "s3_storage.py",
        "supabase_client.py",
      ]
    ) {
      await Deno.copyFile(`${CHECKOUT}/clients/python/${file}`, `${source}/${file}`);
    }
    await run(
      ...pip,
      "wheel",
      "--no-deps",
      "--no-build-isolation",
      "--no-index",
      "--wheel-dir",
      "wheels",
      source,
    );
    const [wheel] = [...Deno.readDirSync(`${folder}/wheels`)].map(({ name }) => name);
    await run(...pip, "install", "--no-deps", "--no-index", "--target", "installed", `wheels/${wheel}`);
    const said = await run(
      "-I",
      "-c",
      `import sys; sys.path.insert(0, "installed")
import eve_gateway, supabase_client, s3_storage, importlib.metadata, importlib.resources
print(importlib.metadata.version("eve-gateway") == eve_gateway.__version__)
print(importlib.resources.files("eve_gateway").joinpath("py.typed").is_file())
print(eve_gateway.__file__, supabase_client.EveError is eve_gateway.EveError)`,
    );
    expect(said.trim().split("\n")).toEqual([
      "True",
      "True",
      expect.stringMatching(/installed\/eve_gateway\/__init__\.py True$/),
    ]);
    await Deno.remove(folder, { recursive: true });
  },
);

/** Whether unittest says so of a file's test. */
function passed(said: string, file: string, test: string): boolean {
  return new RegExp(`^${test} \\(${file}\\..*\\) \\.\\.\\. ok$`, "m").test(said);
}

/** The names of a file's tests. */
function testsOf(file: string): string[] {
  const folder = FRAMEWORKS.includes(file) ? `${FOLDER}/frameworks` : FOLDER;
  const source = Deno.readTextFileSync(`${folder}/${file}.py`);
  return [...source.matchAll(/^ {4}def (test_\w+)\(/gm)].map(([, name]) => name!);
}
