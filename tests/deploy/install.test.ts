/**
 * `eve-gateway` in a repository that people have already: an app with its own migrations, functions, import map and settings is taken
 * through init, push by the real CLI, a first call, updates and removal, and has its own things afterwards as before, byte for byte.
 */
import { cp } from "node:fs/promises";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { apply, changesTo } from "../../cli/install/changes.ts";
import { InstallError } from "../../cli/install/error.ts";
import { readLock } from "../../cli/install/lock.ts";
import { main } from "../../cli/install/main.ts";
import { readPayload } from "../../cli/install/payload.ts";
import { openRepository, type Repository } from "../../cli/install/repository.ts";
import { hashOf } from "../../cli/install/hash.ts";
import { makePackage } from "../../local/pack.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { type Emulator, startEmulator } from "../../local/emulator/emulator.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { makeTestFolder, type TestFolder } from "../harness/folders.ts";
import { freePorts } from "../harness/ports.ts";
import { ACCESS_TOKEN, cliAccount } from "./cli_account.ts";
import { hostUpload } from "./hosted_function.ts";
import { type ManagementApi, startManagementApi } from "./management_api.ts";
import { type NpmRegistry, startNpmRegistry } from "./npm_registry.ts";
import { runSupabase } from "./run_supabase.ts";

const REF = "abcdefghijklmnopqrst";
const SECRET_KEY = "sb_secret_of_a_test";
const NOW = new Date("2026-11-23T12:00:00Z");

/** The app: what stands in its repository before the gateway comes. */
const APP: Record<string, string> = {
  "supabase/config.toml":
    `# Ours.\nproject_id = "app"\n\n[db]\nmajor_version = 17 # as hosted\n\n[functions.api]\nverify_jwt = true\nimport_map = "./functions/api/deno.json"\n`,
  "supabase/functions/api/index.ts":
    `import { greeting } from "../_shared/greeting.ts";\nDeno.serve(() => new Response(greeting));\n`,
  "supabase/functions/api/deno.json": `{"imports":{}}`,
  "supabase/functions/_shared/greeting.ts": `export const greeting = "hello";\n`,
  "supabase/migrations/20250601120000_notes.sql":
    "create table public.notes (id bigint generated always as identity primary key, text text not null);\ninsert into public.notes (text) values ('ours');\n",
  "supabase/seed.sql": "-- nothing\n",
  "deno.json": `{ "imports": { "std": "jsr:@std/assert@1" } }\n`,
  "README.md": "# App\n",
};

let folder: TestFolder;
let database: TestDatabase;
let api: ManagementApi;
let registry: NpmRegistry;
let google: Emulator;
let account: Record<string, string>;
/** The payloads of two versions: the second has another text in one file, one file less, and a migration more. */
let first: string;
let second: string;
let root: string;

const CHANGED = "supabase/functions/_shared/eve/runtime/sha256.ts";

beforeAll(async () => {
  [folder, database, registry, google] = await Promise.all([
    makeTestFolder({ inMemory: true }),
    cloneDatabase("platform"),
    startNpmRegistry(),
    startEmulator(),
  ]);
  api = startManagementApi({ ref: REF, name: "an app", accessToken: ACCESS_TOKEN });
  account = await cliAccount(api, folder.path);
  first = `${await makePackage({ root: CHECKOUT, out: `${folder.path}/one`, version: "1.0.0" })}/payload`;
  second = `${folder.path}/two`;
  await cp(first, second, { recursive: true });
  const manifest = JSON.parse(await Deno.readTextFile(`${second}/manifest.json`));
  const changed = CHANGED.replace("supabase/functions/", "");
  await Deno.writeTextFile(
    `${second}/functions/${changed}`,
    `${await Deno.readTextFile(`${second}/functions/${changed}`)}// new\n`,
  );
  const sql = "create table eve.second_edition (id integer primary key);\n";
  await Deno.writeTextFile(`${second}/migrations/20990101000000_second_edition.sql`, sql);
  await Deno.writeTextFile(
    `${second}/downgrades/20990101000000_second_edition.sql`,
    "drop table eve.second_edition;\n",
  );
  manifest.version = "2.0.0";
  manifest.migrations.push({ name: "20990101000000_second_edition.sql", sha256: hashOf(sql) });
  await Deno.writeTextFile(`${second}/manifest.json`, JSON.stringify(manifest));
  root = await appIn("app");
});

afterAll(async () => {
  await Promise.all([api?.stop(), registry?.stop(), google?.stop(), database?.drop(), folder?.remove()]);
});

async function appIn(name: string, app = APP): Promise<string> {
  const root = `${folder.path}/${name}`;
  for (const [path, text] of Object.entries(app)) {
    await Deno.mkdir(`${root}/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
    await Deno.writeTextFile(`${root}/${path}`, text);
  }
  return root;
}

function filesIn(root: string, below = ""): Record<string, string> {
  const files: Record<string, string> = {};
  for (const { name, isDirectory } of Deno.readDirSync(`${root}/${below}`)) {
    if (isDirectory) Object.assign(files, filesIn(root, `${below}${name}/`));
    else files[`${below}${name}`] = Deno.readTextFileSync(`${root}/${below}${name}`);
  }
  return files;
}

async function eveGateway(
  root: string,
  args: string[],
  payload = first,
  variables: Record<string, string> = {},
) {
  const said: string[] = [];
  await main(args, {
    root,
    payload,
    variable: (name) => variables[name],
    say: (line) => said.push(line),
    ask: () => Promise.resolve(undefined),
    now: () => NOW,
  });
  return said.join("\n");
}

const push = () =>
  runSupabase(root, ["db", "push", `--db-url=${database.url}?sslmode=disable`, "--yes"], account);
const versionsApplied = async () =>
  (await database.sql`select version from supabase_migrations.schema_migrations order by 1`).map((
    { version },
  ) => version);

describe("an app with a history and a function called api", () => {
  test("is told that its function is in the way, and what to do; nothing is changed, nor by a dry run", async () => {
    await expect(eveGateway(root, ["init", "--parts=all", "--yes"])).rejects.toThrow("--prefix eve-");
    await expect(eveGateway(root, ["init"])).rejects.toThrow("add --yes");
    expect(await eveGateway(root, ["init", "--parts=jobs", "--prefix=eve-", "--dry-run"])).toContain(
      "+ [functions.eve-llm-invoke]",
    );
    expect(filesIn(root)).toEqual(APP);
  });

  test("takes the gateway in, pushes with the real CLI, and both have their migrations", async () => {
    expect(await push()).toMatchObject({ success: true });
    const said = await eveGateway(root, ["init", "--parts=jobs", "--prefix=eve-", "--yes"]);
    expect(said).toContain(
      "npx supabase functions deploy eve-llm-invoke eve-issue-kaggle-token eve-maintenance eve-admin eve-worker",
    );
    const { "supabase/config.toml": config, ...others } = APP;
    expect(filesIn(root)).toMatchObject(others);
    expect(await Deno.readTextFile(`${root}/supabase/config.toml`)).toMatch(config!);
    expect(await push()).toMatchObject({ success: true });
    const migrations = [...Deno.readDirSync(`${root}/supabase/migrations`)].map(({ name }) =>
      name.split("_")[0]
    ).sort();
    expect(await versionsApplied()).toEqual(migrations);
    // What they make next is newer than ours.
    expect(migrations.at(-1)! <= "20261123120000").toBe(true);
    expect(await eveGateway(root, ["doctor"])).not.toMatch(/^(error|warning)/m);
    await expect(eveGateway(root, ["init", "--yes"])).rejects.toThrow("here already");
  });

  test("deploys its function and the gateway's by the real CLI, and the gateway answers a first call under its prefix", async () => {
    const names = ["api", "eve-llm-invoke", "eve-worker"];
    const done = await runSupabase(root, [
      "functions",
      "deploy",
      ...names,
      "--use-api",
      `--remote=${REF}`,
      "--yes",
    ], account);
    expect(done).toMatchObject({ success: true });
    const upload = api.functions.get("eve-llm-invoke")!.upload;
    expect(upload.metadata).toMatchObject({
      verify_jwt: false,
      import_map_path: "supabase/functions/eve-llm-invoke/deno.json",
    });
    expect(
      [...upload.files.keys()].every((path) =>
        /^supabase\/functions\/(eve-llm-invoke|_shared\/eve)\//.test(path)
      ),
    ).toBe(true);
    expect([...api.functions.get("api")!.upload.files.keys()].some((path) => path.includes("eve"))).toBe(
      false,
    );

    await database
      .sql`insert into public.google_ai_api_keys (key_alias, env_var_name) values ('one', 'GOOGLE_API_KEY')`;
    const [closed] = freePorts(1);
    await Deno.mkdir(`${folder.path}/hosted`);
    const hosted = await hostUpload(upload, {
      folder: `${folder.path}/hosted`,
      npm: { registry: registry.url, cache: `${folder.path}/npm` },
      env: {
        SUPABASE_URL: `http://127.0.0.1:${closed}`,
        SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: "sb_publishable_of_a_test" }),
        SUPABASE_SECRET_KEYS: JSON.stringify({ default: SECRET_KEY }),
        SUPABASE_DB_URL: database.url,
        EVE_LEDGER_TRANSPORT: "direct",
        GOOGLE_API_BASE_URL: google.url,
        GOOGLE_API_KEY: "demo-key-a",
      },
    });
    try {
      const response = await fetch(hosted.url, {
        method: "POST",
        headers: { apikey: SECRET_KEY, "content-type": "application/json" },
        body: JSON.stringify({ model: "gemma-4-31b-it", prompt: "Hello" }),
      });
      expect(await response.json()).toMatchObject({ text: expect.any(String), key_alias: "one" });
      expect(new URL(hosted.url).pathname).toBe("/eve-llm-invoke");
    } finally {
      await hosted.stop();
    }
  });

  test("is asked about a file that both sides changed, and nothing is overwritten", async () => {
    const mine = `${await Deno.readTextFile(`${root}/${CHANGED}`)}// mine\n`;
    await Deno.writeTextFile(`${root}/${CHANGED}`, mine);
    const before = filesIn(root);
    await expect(eveGateway(root, ["update", "--yes"], second)).rejects.toThrow(CHANGED);
    expect(filesIn(root)).toEqual(before);
    expect(await eveGateway(root, ["doctor"])).toContain(`warning ${CHANGED}`);

    await eveGateway(root, ["update", "--yes", "--keep", CHANGED, "--parts", "gateway"], second);
    expect(await Deno.readTextFile(`${root}/${CHANGED}`)).toBe(mine);
    expect(readLock(root)).toMatchObject({ version: "2.0.0", parts: ["gateway"] });
    expect([...Deno.readDirSync(`${root}/supabase/functions`)].map(({ name }) => name)).not.toContain(
      "eve-worker",
    );
    expect(await push()).toMatchObject({ success: true });
    expect(await database.sql`select to_regclass('eve.second_edition') is not null as there`).toEqual([{
      there: true,
    }]);
    // And once more: nothing to do, and what the user keeps stays kept.
    expect(await eveGateway(root, ["update", "--yes"], second)).toContain("Nothing to do");
  });

  test("is rid of it without a trace: files, tables, functions and history as they were", async () => {
    await expect(eveGateway(root, ["remove", "--drop-data", "--yes"])).rejects.toThrow("DATABASE_URL");
    await Deno.writeTextFile(`${root}/${CHANGED}`, "// mine\n");
    await expect(eveGateway(root, ["remove", "--yes"], second)).rejects.toThrow("--changed-too");
    const said = await eveGateway(root, ["remove", "--drop-data", "--changed-too", "--yes"], second, {
      DATABASE_URL: database.url,
    });
    expect(said).toMatch(/rows? of public\.google_ai_api_keys written to/);
    const left = filesIn(root);
    const exported = Object.keys(left).filter((path) => path.startsWith("eve-export-"));
    expect(exported.some((path) => path.endsWith("public.google_ai_api_keys.ndjson"))).toBe(true);
    for (const path of exported) delete left[path];
    for (const path of Object.keys(left)) if (path.startsWith("supabase/.temp/")) delete left[path];
    expect(left).toEqual(APP);
    expect(await versionsApplied()).toEqual(["20250601120000"]);
    const [there] = await database.sql`
      select (select count(*)::int from pg_catalog.pg_namespace where nspname = 'eve') as schemas,
        (select count(*)::int from pg_catalog.pg_proc where pronamespace = 'public'::regnamespace and proname ^@ 'eve_') as functions,
        (select array_agg(relname::text) from pg_catalog.pg_class where relnamespace = 'public'::regnamespace and relkind = 'r') as tables`;
    expect(there).toEqual({ schemas: 0, functions: 0, tables: ["notes"] });
    expect(await database.sql`select text from public.notes`).toEqual([{ text: "ours" }]);
    expect(await push()).toMatchObject({ success: true });
  });
});

test("a table of the user's with a name of ours stops the first push in words, and nothing is made", async () => {
  const other = await cloneDatabase("platform");
  const at = await appIn("in-the-way", { "supabase/config.toml": 'project_id = "in-the-way"\n' });
  const pushTo = () =>
    runSupabase(at, ["db", "push", `--db-url=${other.url}?sslmode=disable`, "--yes"], account);
  try {
    await other.sql.unsafe("create table public.api_keys (id bigint, secret text)");
    await eveGateway(at, ["init", "--yes"]);
    const refused = await pushTo();
    expect(refused).toMatchObject({
      success: false,
      printed: expect.stringContaining("public.api_keys is in the way"),
    });
    expect(await other.sql`select to_regnamespace('eve') as there`).toEqual([{ there: null }]);
    await other.sql.unsafe("alter table public.api_keys rename to my_api_keys");
    expect(await pushTo()).toMatchObject({ success: true });
  } finally {
    await other.drop();
  }
});

test("tables that were there stay when it goes, with their rows; without --drop-data the database keeps everything", async () => {
  const other = await cloneDatabase("platform");
  const at = await appIn("hand-made", { ...APP, "supabase/config.toml": 'project_id = "hand-made"\n' });
  try {
    await other.sql.unsafe(
      "create table public.token_usage (id bigint primary key, model text, mine text); insert into public.token_usage values (1, 'm', 'x')",
    );
    await eveGateway(at, ["init", "--yes"]);
    const pushed = await runSupabase(
      at,
      ["db", "push", `--db-url=${other.url}?sslmode=disable`, "--yes"],
      account,
    );
    expect(pushed).toMatchObject({ success: true });
    await eveGateway(at, ["remove", "--yes"]);
    expect(readLock(at)).toMatchObject({ functions: [], files: {} });
    expect([...Deno.readDirSync(`${at}/supabase/migrations`)].length).toBeGreaterThan(50);
    // It may come back to its migrations, and go for good.
    await eveGateway(at, ["init", "--yes"]);
    await eveGateway(at, ["remove", "--drop-data", "--yes"], first, { DATABASE_URL: other.url });
    expect(await other.sql`select id, model, mine from public.token_usage`).toEqual([{
      id: "1",
      model: "m",
      mine: "x",
    }]);
    expect(await other.sql`select to_regclass('public.google_ai_api_keys') as there`).toEqual([{
      there: null,
    }]);
  } finally {
    await other.drop();
  }
});

test("an init or update that is cut short anywhere is finished by the same command", async () => {
  const parts = ["gateway", "jobs"] as const;
  const wanted = (payload: string) => ({
    payload: readPayload(payload, parts, ""),
    parts: [...parts],
    prefix: "",
    now: NOW,
    settled: { mine: new Set<string>(), theirs: new Set<string>() },
  });
  const app = { "supabase/config.toml": 'project_id = "x"\n' };
  const whole = await appIn("whole", app);
  const done = openRepository(whole);
  const install = changesTo(done, undefined, wanted(first));
  apply(done, undefined, install);
  const installed = filesIn(whole);
  const update = changesTo(done, readLock(whole), wanted(second));
  apply(done, readLock(whole), update);
  const updated = filesIn(whole);
  // All is there but the lock that says so.
  const allBut = ({ write }: typeof install) => write.size + 1;
  let number = 0;
  await fc.assert(
    fc.asyncProperty(fc.nat(800), fc.boolean(), async (steps, updates) => {
      const at = await appIn(`cut-${number++}`, updates ? installed : app);
      const repository = openRepository(at);
      const cut: Repository = {
        ...repository,
        write: dieAfter(steps, repository.write),
        remove: dieAfter(steps, repository.remove),
      };
      const target = wanted(updates ? second : first);
      try {
        apply(cut, readLock(at), changesTo(cut, readLock(at), target));
      } catch (error) {
        expect(error).toBe(CUT);
      }
      apply(repository, readLock(at), changesTo(repository, readLock(at), target));
      expect(filesIn(at)).toEqual(updates ? updated : installed);
      await Deno.remove(at, { recursive: true });
    }),
    {
      numRuns: 12,
      examples: [
        [0, false],
        [1, false],
        [1, true],
        [2, true],
        [allBut(install), false],
        [allBut(update), true],
      ],
    },
  );
});

const CUT = new Error("cut short");

function dieAfter<Args extends unknown[]>(
  steps: number,
  run: (...args: Args) => void,
): (...args: Args) => void {
  let left = steps;
  return (...args) => {
    if (left-- <= 0) throw CUT;
    run(...args);
  };
}

test("a repository without a Supabase project, and a lock that was meddled with, are said", async () => {
  const at = await appIn("none", { "README.md": "#\n" });
  await expect(eveGateway(at, ["init", "--yes"])).rejects.toThrow("npx supabase init");
  const meddled = await appIn("meddled", {
    ...APP,
    "eve.lock.json": '{"version":"1","files":{"../../etc/passwd":"x"}}',
  });
  await expect(eveGateway(meddled, ["remove", "--yes"])).rejects.toThrow(InstallError);
  await expect(eveGateway(meddled, ["frobnicate"])).rejects.toThrow("no command");
});
