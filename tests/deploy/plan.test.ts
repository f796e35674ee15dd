import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { deploy } from "../../cli/deploy.ts";
import { describePlan, makePlan } from "../../cli/deploy/plan.ts";
import { targetOf } from "../../cli/deploy/project.ts";
import { blotter } from "../../cli/deploy/supabase_cli.ts";
import { sumOf } from "../../local/migration_sums.ts";
import { makeTestFolder, type TestFolder } from "../harness/folders.ts";
import { type FakeCli, fakeCli, type FakeProject } from "./fake_cli.ts";

const REF = "abcdefghijklmnopqrst";
const VALUE = "AIzaSyVerySecretValue";

let folder: TestFolder;
/** A checkout with two functions and two migrations. */
let root: string;
let keysFile: string;

beforeAll(async () => {
  folder = await makeTestFolder();
  root = `${folder.path}/checkout`;
  keysFile = `${folder.path}/keys.env`;
  const files = {
    "supabase/config.toml": "[functions.ask]\n\n[functions.answer]\n",
    "supabase/functions/ask/index.ts": "",
    "supabase/functions/answer/index.ts": "",
    "supabase/functions/_notes/README.md": "",
    "supabase/migrations/20260101000000_first.sql": "",
    "supabase/migrations/20260102000000_second.sql": "",
  };
  for (const [path, text] of Object.entries(files)) {
    await Deno.mkdir(`${root}/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
    await Deno.writeTextFile(`${root}/${path}`, text);
  }
  await Deno.writeTextFile(keysFile, `KEY_A=${VALUE}\nKEY_B=${VALUE}2\n`);
});

afterAll(() => folder?.remove());

interface Outcome {
  said: string;
  cli: FakeCli;
  refused?: string;
}

async function deployTo(project: FakeProject, args: string[], answer?: boolean): Promise<Outcome> {
  const cli = fakeCli(project);
  const lines: string[] = [];
  const outcome = { cli } as Outcome;
  try {
    await deploy(args, {
      root,
      cli: () => cli.run,
      say: (line) => lines.push(line),
      ask: () => answer,
    });
  } catch (error) {
    outcome.refused = (error as Error).message;
  }
  outcome.said = lines.join("\n");
  return outcome;
}

const PARTLY: FakeProject = {
  secrets: ["KEY_A", "OTHER"],
  functions: { ask: 3, foreign: 1 },
  migrations: [
    { local: "20260101000000", remote: "20260101000000" },
    { local: "20260102000000", remote: "" },
  ],
  keys: [
    { key_alias: "first", env_var_name: "KEY_A" },
    { key_alias: "third", env_var_name: "KEY_C" },
  ],
};

describe("the plan", () => {
  test("says what will be done, and a dry run stops there", async () => {
    const { said, cli, refused } = await deployTo(PARTLY, ["--secrets-file", keysFile, "--dry-run", "--yes"]);
    expect(refused).toBeUndefined();
    expect(said).toBe(`Deploying to "my gateway" (${REF}):

1. Database: 1 migration to apply
     20260102000000_second.sql
2. Secrets: 2 values to set, from ${keysFile}
     KEY_A (replaces the one there)
     KEY_B (new)
3. Functions: 2 functions to deploy
     answer (new)
     ask (replaces version 3)

Warning: Key third is read from the secret KEY_C, which is neither on the project nor in a secrets file: \
calls cannot use that key until you set it (npm run deploy again, with --secrets-file).

Dry run: nothing was changed.`);
    expect(cli.changes()).toEqual([]);
  });

  test("leaves alone what it was not asked to touch", async () => {
    const { said } = await deployTo(PARTLY, ["--functions-only", "--dry-run"]);
    expect(said).toContain("1. Database: left as it is");
    expect(said).toContain("2. Secrets: left as they are");
  });
});

describe("asking first", () => {
  test("a no changes nothing", async () => {
    const { cli, refused } = await deployTo(PARTLY, [], false);
    expect(refused).toBe("Stopped. Nothing was changed.");
    expect(cli.changes()).toEqual([]);
  });

  test("nobody to ask changes nothing", async () => {
    const { cli, refused } = await deployTo(PARTLY, [], undefined);
    expect(refused).toContain("add --yes");
    expect(cli.changes()).toEqual([]);
  });

  test("a yes, or --yes, does it in order, and no value passes through a command line", async () => {
    const args = ["--secrets-file", keysFile, "--project-ref", REF];
    for (const outcome of [await deployTo(PARTLY, args, true), await deployTo(PARTLY, [...args, "--yes"])]) {
      expect(outcome.refused).toBeUndefined();
      expect(outcome.cli.changes()).toEqual([
        ["db", "push", `--remote=${REF}`, "--include-all", "--skip-vault", "--yes"],
        ["secrets", "set", `--env-file=${keysFile}`, `--remote=${REF}`, "--yes"],
        ["functions", "deploy", "answer", "--use-api", `--remote=${REF}`, "--yes"],
        ["functions", "deploy", "ask", "--use-api", `--remote=${REF}`, "--yes"],
      ]);
      expect(JSON.stringify(outcome.cli.calls)).not.toContain(VALUE);
      expect(outcome.said).toContain(`https://${REF}.supabase.co/functions/v1/ask`);
    }
  });
});

describe("where to", () => {
  test("the linked project, when none is named", async () => {
    const { cli } = await deployTo(PARTLY, ["--yes"]);
    expect(cli.calls.every((args) => args.includes("--remote"))).toBe(true);
  });

  test("a database of its own address, over TLS unless it is on this machine", async () => {
    const databaseOf = async (url: string) => {
      const { cli } = await deployTo(PARTLY, ["--project-ref", REF, "--db-url", url, "--yes"]);
      return cli.calls.find((args) => args[1] === "push")![2];
    };
    expect(await databaseOf(`postgresql://postgres.${REF}:[YOUR-PASSWORD]@pooler.example:5432/postgres`))
      .toBe(`--remote=postgresql://postgres.${REF}@pooler.example:5432/postgres?sslmode=require`);
    expect(await databaseOf("postgresql://postgres@db.example/postgres?sslmode=verify-full"))
      .toBe("--remote=postgresql://postgres@db.example/postgres?sslmode=verify-full");
    expect(await databaseOf("postgresql://postgres@127.0.0.1:5432/postgres"))
      .toBe("--remote=postgresql://postgres@127.0.0.1:5432/postgres");
  });

  test.each([
    [["--project-ref", "My Project"], "not a project ref"],
    [["--db-url", "postgresql://postgres:hunter2@db.example/postgres"], "PGPASSWORD"],
    [["--db-url", "postgresql://postgres@db.example/postgres?password=hunter2"], "PGPASSWORD"],
    [["--db-url", "https://db.example"], "postgresql://"],
    [["--db-url", "nonsense"], "not a URL"],
    [["--secrets"], "--help"],
    [["production"], "--help"],
    [["--secrets-file", "/nowhere/keys.env"], "/nowhere/keys.env: it is not there"],
  ])("%j is refused", async (args, message) => {
    const { cli, refused } = await deployTo(PARTLY, args);
    expect(refused).toContain(message);
    expect(refused).not.toContain("hunter2");
    expect(cli.calls).toEqual([]);
  });

  test("a secrets file with nothing in it is refused", async () => {
    const file = `${folder.path}/empty.env`;
    await Deno.writeTextFile(file, "# to be filled in\n");
    expect((await deployTo(PARTLY, ["--secrets-file", file])).refused).toContain("has no NAME=value");
  });
});

describe("what is wrong is said before anything is changed", () => {
  const status = (number: number) => ({
    code: "SecretsListUnexpectedStatusError",
    message: `unexpected list secrets status ${number}: {"message":"no"}`,
  });
  test.each<[string, FakeProject["failures"], string]>([
    [
      "no access token",
      { "secrets list": { code: "AccessTokenRequiredError", message: "" } },
      "supabase login",
    ],
    ["a wrong access token", { "secrets list": { code: "InvalidAccessTokenError", message: "" } }, "sbp_"],
    ["a refused access token", { "secrets list": status(401) }, "refused the access token"],
    ["no such project", { "secrets list": status(404) }, "check the project ref"],
    ["no link", { "secrets list": { code: "ProjectRefNotLinkedError", message: "" } }, "supabase link"],
    [
      "a database out of reach",
      {
        "migration list": {
          code: "DbConfigIpv6Error",
          message: "IPv6 is not supported",
          suggestion: "Link.",
        },
      },
      "IPv6 is not supported\nLink.\nIf the database cannot be reached this way, pass --db-url",
    ],
    ["an answer that is no answer", { "functions list": "Killed" }, "functions list failed"],
  ])("%s", async (_, failures, message) => {
    const { cli, refused } = await deployTo({ ...PARTLY, failures }, ["--yes"]);
    expect(refused).toContain(message);
    expect(cli.changes()).toEqual([]);
  });

  test("a database that knows more than the checkout", async () => {
    const migrations = [...PARTLY.migrations!, { local: "", remote: "20270101000000" }];
    const { cli, refused } = await deployTo({ ...PARTLY, migrations }, ["--yes"]);
    expect(refused).toContain("20270101000000");
    expect(refused).toContain("--functions-only");
    expect(cli.changes()).toEqual([]);

    const anyway = await deployTo({ ...PARTLY, migrations }, ["--yes", "--functions-only"]);
    expect(anyway.cli.changes().map((args) => args[0])).toEqual(["functions", "functions"]);
  });

  test("a database from before the first release, which would be migrated by half", async () => {
    const migrations = [...PARTLY.migrations!, { local: "", remote: "20261121000100" }];
    const { cli, refused } = await deployTo({ ...PARTLY, migrations }, ["--yes"]);
    expect(refused).toMatch(/before its first release \(migrations 20261121000100 to 20261121000100\)/);
    expect(refused).toContain("drop schema eve cascade");
    expect(cli.changes()).toEqual([]);
  });

  test.each([["--yes"], ["--yes", "--functions-only"]])(
    "a database that was made with another text of a migration (%s)",
    async (...args) => {
      // The file is empty: white space and semicolons alone make no other text.
      const sums = [{ version: "20260101000000", sum: await sumOf(";\n") }, {
        version: "20260102000000",
        sum: await sumOf("select 1"),
      }];
      const { cli, refused } = await deployTo({ ...PARTLY, sums }, args);
      expect(refused).toMatch(/another text of 20260102000000_second\.sql than this checkout has/);
      expect(refused).toContain("between '20260101000000' and '20260102000000'");
      expect(cli.changes()).toEqual([]);
      const same = [sums[0]!, { version: "20260102000000", sum: null }];
      expect((await deployTo({ ...PARTLY, sums: same }, args)).refused).toBeUndefined();
    },
  );

  test("a function without its section in the configuration", async () => {
    await Deno.mkdir(`${root}/supabase/functions/forgotten`);
    await Deno.writeTextFile(`${root}/supabase/functions/forgotten/index.ts`, "");
    try {
      expect((await deployTo(PARTLY, ["--yes"])).refused).toContain("[functions.forgotten]");
    } finally {
      await Deno.remove(`${root}/supabase/functions/forgotten`, { recursive: true });
    }
  });
});

describe("keys", () => {
  test("an empty project has none yet, and the CLI says so", async () => {
    const { said, refused } = await deployTo({}, ["--yes"]);
    expect(refused).toBeUndefined();
    expect(said).toContain("No active key is in google_ai_api_keys yet");
  });

  test("all with their secrets are no reason to warn", async () => {
    const keys = [{ key_alias: "second", env_var_name: "KEY_B" }];
    const { said } = await deployTo({ ...PARTLY, keys }, ["--secrets-file", keysFile, "--yes"]);
    expect(said).not.toContain("Warning");
    expect(said).not.toContain("No active key");
  });
});

describe("a step that fails", () => {
  test("says what is done and how to go on", async () => {
    const { cli, said, refused } = await deployTo(
      { ...PARTLY, failures: { "secrets set": "unexpected status 500" } },
      ["--secrets-file", keysFile, "--yes"],
    );
    expect(said).toContain("  unexpected status 500");
    expect(refused).toBe(
      `Setting secrets failed; the reason is above.
The secrets are set all together or not at all, so they are as they were.
Done: the migrations are applied.
Not begun: deploying answer, deploying ask.
When the cause is gone, run the same command again: what is done already is skipped, or repeated without harm.`,
    );
    expect(cli.changes().map((args) => args[0])).toEqual(["db", "secrets"]);
  });
});

test("values are blotted out of what the CLI prints, also one inside another", () => {
  const blot = blotter(["AIza-1", "AIza-1-longer", "abc"]);
  expect(blot("bad key AIza-1-longer, not AIza-1; abc")).toBe("bad key [hidden], not [hidden]; abc");
});

test("of the gateway's own functions those of the chosen parts go, with what each part adds; others of the checkout go too", async () => {
  const at = `${folder.path}/parts`;
  const names = ["llm-invoke", "worker", "api", "mine"];
  await Deno.mkdir(`${at}/supabase/migrations`, { recursive: true });
  for (const name of names) {
    await Deno.mkdir(`${at}/supabase/functions/${name}`, { recursive: true });
    await Deno.writeTextFile(`${at}/supabase/functions/${name}/index.ts`, "");
  }
  await Deno.writeTextFile(
    `${at}/supabase/config.toml`,
    names.map((name) => `[functions.${name}]\n`).join(""),
  );
  const cli = fakeCli(PARTLY);
  const plan = (parts?: ("gateway" | "jobs")[]) =>
    makePlan(cli.run, {
      root: at,
      target: targetOf({ projectRef: REF }),
      functionsOnly: true,
      secrets: undefined,
      parts,
    });
  const chosen = await plan(["gateway", "jobs"]);
  expect(chosen.functions.map(({ name }) => name)).toEqual(["llm-invoke", "mine", "worker"]);
  expect(describePlan(chosen).join("\n")).toContain("part jobs     queued calls, batches and webhooks");
  expect((await plan()).functions.map(({ name }) => name)).toEqual([...names].sort());
});
