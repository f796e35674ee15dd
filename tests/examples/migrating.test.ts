/** The blocks of docs/migrating.md, run as they stand with a notebook's token. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CHECKOUT } from "../../local/paths.ts";
import { codeBlocks, readPage, section } from "../docs/pages.ts";
import { makeTestFolder, type TestFolder } from "../harness/folders.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";
import { PACKAGES_PYTHON as PYTHON } from "../harness/python.ts";
import { run, runEve } from "./example_stack.ts";

const PAGE = readPage("docs/migrating.md");
const KEY_PLACES = section(PAGE, "The notebook's three places of a key");
const PYTHONPATH = `${CHECKOUT}/clients/python`;

let stack: TestStack;
let folder: TestFolder;
let secret: string;
let environment: Record<string, string>;
beforeAll(async () => {
  stack = await startTestStack({ emulator: { latencyMs: 5 } });
  folder = await makeTestFolder();
  ({ secret } = await runEve(stack, "consumers", "add", "kaggle", "--kind", "notebook"));
  const { access_token } = await runEve(stack, "tokens", "issue", "kaggle", "--ttl", "5m");
  environment = { EVE_GATEWAY_URL: stack.url, EVE_TOKEN: access_token };
});
afterAll(async () => {
  await stack?.stop();
  await folder?.remove();
});

const python = (source: string, env: Record<string, string>, path = PYTHONPATH) =>
  run(PYTHON!, ["-c", source], { PYTHONPATH: path, ...env });

describe.skipIf(PYTHON === null)("in Python", () => {
  test.each([
    ["google.generativeai", "концерт\nфестиваль лекция\n"],
    ["google-genai", "концерт\nфестиваль"],
    ["OpenAI's client", "концерт\n"],
    ["supabase", "концерт\n"],
  ])("%s", async (heading, expected) => {
    const blocks = codeBlocks(section(PAGE, heading), "python");
    const { code, said, complained } = await python(blocks.join("\n"), environment);
    expect(code, complained).toBe(0);
    expect(said).toBe(expected);
  });

  test("the key's three places are Python", async () => {
    const [before] = codeBlocks(KEY_PLACES, "py");
    const { code, complained } = await python(`compile(${JSON.stringify(before)}, "before", "exec")`, {});
    expect(code, complained).toBe(0);
  });

  test("one enrolment secret replaces them: in the environment", async () => {
    const [after] = codeBlocks(KEY_PLACES, "python");
    const { said, complained } = await python(after!, {
      EVE_GATEWAY_URL: stack.url,
      EVE_GATEWAY_SECRET: secret,
    });
    expect(said, complained).toBe("концерт\n");
  });

  test("one enrolment secret replaces them: in Kaggle Secrets", async () => {
    // Kaggle's module, which is nowhere else.
    const secrets = JSON.stringify({ EVE_GATEWAY_URL: stack.url, EVE_GATEWAY_SECRET: secret });
    await Deno.writeTextFile(
      `${folder.path}/kaggle_secrets.py`,
      `class UserSecretsClient:\n    def get_secret(self, name):\n        return ${secrets}[name]\n`,
    );
    const [after] = codeBlocks(KEY_PLACES, "python");
    const nothing = { EVE_GATEWAY_URL: "", EVE_GATEWAY_SECRET: "" };
    const { said, complained } = await python(after!, nothing, `${folder.path}:${PYTHONPATH}`);
    expect(said, complained).toBe("концерт\n");
  });

  test("a token for another client is fetched, and serves it", async () => {
    const fetchToken = codeBlocks(KEY_PLACES, "python")[1]!;
    const [client] = codeBlocks(section(PAGE, "google-genai"), "python");
    const { code, said, complained } = await python(`${fetchToken}\n${client}`, {
      EVE_GATEWAY_URL: stack.url,
      EVE_GATEWAY_SECRET: secret,
    });
    expect(code, complained).toBe(0);
    expect(said).toBe("концерт\nфестиваль");
  });
});

test("OpenAI's client in JavaScript", async () => {
  const [block] = codeBlocks(section(PAGE, "OpenAI's client"), "js");
  await Deno.writeTextFile(`${folder.path}/client.mjs`, block!);
  const { code, said, complained } = await run(
    Deno.execPath(),
    ["run", "-A", "--cached-only", "--config", `${CHECKOUT}/deno.json`, `${folder.path}/client.mjs`],
    environment,
  );
  expect(code, complained).toBe(0);
  expect(said).toBe("концерт\n");
});
