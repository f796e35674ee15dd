/** `npm run deploy` as a user runs it: a process of its own, the real CLI, a Management API and a database on this machine. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { makeTestFolder, type TestFolder } from "../harness/folders.ts";
import { type CheckoutCopy, copyCheckout } from "./checkout_copy.ts";
import { ACCESS_TOKEN, cliAccount } from "./cli_account.ts";
import { type ManagementApi, startManagementApi } from "./management_api.ts";

const REF = "abcdefghijklmnopqrst";
const VALUE = "AIzaSyVerySecretValue";

let checkout: CheckoutCopy;
let folder: TestFolder;
/** A fresh hosted project's database: nobody has deployed anything to it. */
let database: TestDatabase;
let api: ManagementApi;
let account: Record<string, string>;

beforeAll(async () => {
  [checkout, folder, database] = await Promise.all([
    // The gateway itself, and the one that the schedule calls.
    copyCheckout(["llm-invoke", "maintenance"]),
    makeTestFolder(),
    cloneDatabase("platform"),
  ]);
  api = startManagementApi({
    ref: REF,
    name: "my gateway",
    accessToken: ACCESS_TOKEN,
    query: (sql) => database.sql.unsafe(sql),
  });
  account = await cliAccount(api, folder.path);
  // But somebody has made one of its tables by hand, with a column that the gateway does not know.
  await database.sql.unsafe("create table public.token_usage (id bigint, user_id text not null)");
  await Deno.writeTextFile(`${folder.path}/keys.env`, `GOOGLE_API_KEY_ONE=${VALUE}\n`);
});

afterAll(async () => {
  await Promise.all([api?.stop(), database?.drop(), checkout?.remove(), folder?.remove()]);
});

/** The database's address without its password, as a user is asked to give it. */
function databaseAddress(): string {
  const url = new URL(database.url);
  url.password = "";
  return url.href;
}

async function npmRunDeploy(args: string[], env: Record<string, string> = {}) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", `${checkout.root}/cli/deploy.ts`, ...args],
    // As npm does: the script runs at the root, and INIT_CWD is where the user was.
    cwd: checkout.root,
    env: {
      ...account,
      INIT_CWD: folder.path,
      PGPASSWORD: new URL(database.url).password,
      PGSSLMODE: "disable",
      ...env,
    },
    stdin: "null",
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { code, out: out!, err: err! };
}

const migrated = async () => {
  const [row] = await database.sql`select to_regclass('public.google_ai_api_keys') is not null as there`;
  return row!.there as boolean;
};

const versions = () => Object.fromEntries([...api.functions].map(([slug, live]) => [slug, live.version]));

test("without a token, or a link, it says which is missing", async () => {
  const [noToken, noLink] = await Promise.all([
    npmRunDeploy(["--yes"], { SUPABASE_ACCESS_TOKEN: "" }),
    npmRunDeploy(["--yes"]),
  ]);
  expect(noToken).toMatchObject({ code: 1, err: expect.stringContaining("There is no access token") });
  expect(noLink).toMatchObject({ code: 1, err: expect.stringContaining("No project is linked") });
});

test("from an empty project to a deployed gateway, and once more over it", async () => {
  const args = ["--project-ref", REF, "--db-url", databaseAddress(), "--secrets-file", "keys.env"];
  const first = await npmRunDeploy([...args, "--yes"]);
  expect(first).toMatchObject({ code: 0, err: "" });
  expect(first.out).toContain(`Deploying to "my gateway" (${REF})`);
  expect(first.out).toContain("foundation.sql");
  expect(first.out).toContain("GOOGLE_API_KEY_ONE (new)");
  expect(first.out).toContain("llm-invoke (new)");
  expect(await migrated()).toBe(true);
  expect(first.out).toContain(
    "Warning: adoption: column user_id of public.token_usage may be null from now on, since the gateway cannot know its value",
  );
  expect(Object.fromEntries(api.secrets)).toEqual({ GOOGLE_API_KEY_ONE: VALUE });
  expect(api.functions.get("llm-invoke")).toMatchObject({
    version: 1,
    upload: { metadata: { verify_jwt: false } },
  });

  // Now the checkout is linked and has one more function, which does not bundle; and a key is missing its secret.
  const config = await Deno.readTextFile(`${checkout.root}/supabase/config.toml`);
  await checkout.write(
    "supabase/config.toml",
    `${config}\n[functions.second]\nverify_jwt = false\nimport_map = "../deno.json"\n`,
  );
  await checkout.write(
    "supabase/functions/second/index.ts",
    "export default { fetch: () => new Response() };\n",
  );
  await checkout.write("supabase/.temp/project-ref", REF);
  await database.sql`
    insert into public.google_ai_api_keys (key_alias, provider, env_var_name)
    values ('second', 'google', 'GOOGLE_API_KEY_TWO')`;
  api.fail("slug=second", 400, `Failed to bundle the function (reason: ${VALUE})`);
  const second = await npmRunDeploy(["--db-url", databaseAddress(), "--secrets-file", "keys.env", "--yes"]);
  expect(second.code).toBe(1);
  expect(second.out).toContain("1. Database: up to date.");
  expect(second.out).not.toContain("adoption:");
  expect(second.out).toContain("GOOGLE_API_KEY_ONE (replaces the one there)");
  expect(second.out).toContain("llm-invoke (replaces version 1)");
  expect(second.out).toContain("Key second is read from the secret GOOGLE_API_KEY_TWO");
  expect(second.out).toContain("Failed to bundle the function (reason: [hidden])");
  expect(second.err).toContain("Deploying second failed");
  expect(second.err).toMatch(/^Done: the secrets are set, .*llm-invoke is deployed/m);
  expect(versions()).toMatchObject({ "llm-invoke": 2 });
  expect(versions()).not.toHaveProperty("second");

  api.fail(undefined);
  const third = await npmRunDeploy(["--functions-only", "--yes"]);
  expect(third).toMatchObject({ code: 0, err: "" });
  expect(third.out).toContain("GOOGLE_API_KEY_TWO");
  expect(versions()).toMatchObject({ "llm-invoke": 3, second: 1 });

  for (const { out, err } of [first, second, third]) expect(out + err).not.toContain(VALUE);
});
