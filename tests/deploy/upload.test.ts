/**
 * Deployment is proved here: the real CLI uploads each function to a Management API on this machine, and the function
 * runs from what arrived and nothing else.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CHECKOUT } from "../../local/paths.ts";
import { freePorts } from "../harness/ports.ts";
import { SIGNING_KEYS_VARIABLE } from "../../shared/tokens/signing_keys.ts";
import { codeBlocks, readPage, section } from "../docs/pages.ts";
import { makeTestFolder, type TestFolder } from "../harness/folders.ts";
import { type CheckoutCopy, copyCheckout } from "./checkout_copy.ts";
import { ACCESS_TOKEN, cliAccount } from "./cli_account.ts";
import { hostUpload } from "./hosted_function.ts";
import { type ManagementApi, startManagementApi, type Upload } from "./management_api.ts";
import { moduleGraph } from "../../local/module_graph.ts";
import { type NpmRegistry, startNpmRegistry } from "./npm_registry.ts";
import { runSupabase } from "./run_supabase.ts";

const REF = "abcdefghijklmnopqrst";
const DECOY = "decoy-value-that-must-stay-at-home";
const SECRET_KEY = "sb_secret_of_a_test";

/** Those that the page names, beside keys. */
const SECRETS = ["ADMIN_SECRET_KEY", "EVE_ADMIN_ORIGINS", SIGNING_KEYS_VARIABLE];

const FUNCTIONS = [...Deno.readDirSync(`${CHECKOUT}/supabase/functions`)]
  .filter((entry) => entry.isDirectory).map((entry) => entry.name).sort();

let checkout: CheckoutCopy;
let folder: TestFolder;
let api: ManagementApi;
let registry: NpmRegistry;
/** By function. */
let uploads: Map<string, Upload>;

beforeAll(async () => {
  [checkout, folder, registry] = await Promise.all([
    copyCheckout(),
    makeTestFolder({ inMemory: true }),
    startNpmRegistry({ newer: true }),
  ]);
  api = startManagementApi({ ref: REF, name: "a test", accessToken: ACCESS_TOKEN });
  await Promise.all([
    ".env",
    "supabase/.env",
    "supabase/functions/.env",
    ...FUNCTIONS.flatMap((name) => [
      `supabase/functions/${name}/.env`,
      `supabase/functions/${name}/index.test.ts`,
      `supabase/functions/${name}/notes.json`,
    ]),
    "shared/contract/errors.test.ts",
    "shared/nobody_imports_this.ts",
  ].map((path) => checkout.write(path, path.endsWith(".env") ? `DECOY=${DECOY}\n` : `"${DECOY}";\n`)));
  const home = `${folder.path}/home`;
  await Deno.mkdir(home, { recursive: true });
  const done = await runSupabase(
    checkout.root,
    ["functions", "deploy", ...FUNCTIONS, "--use-api", `--remote=${REF}`, "--yes"],
    await cliAccount(api, home),
  );
  expect(done).toMatchObject({ success: true });
  uploads = new Map(api.uploads.map((upload) => [upload.slug, upload]));
});

afterAll(async () => {
  await Promise.all([api?.stop(), registry?.stop(), checkout?.remove(), folder?.remove()]);
});

test("there is a function to deploy", () => {
  expect(FUNCTIONS).toContain("llm-invoke");
});

describe.each(FUNCTIONS)("%s", (name) => {
  let upload: Upload;

  beforeAll(() => {
    upload = uploads.get(name)!;
  });

  test("is uploaded with every file it imports, the import map, and nothing else", async () => {
    const graph = await moduleGraph(checkout.root, `supabase/functions/${name}/index.ts`);
    expect(graph.errors).toEqual([]);
    const uploaded = new Set(upload.files.keys());
    expect([...graph.code].filter((path) => !uploaded.has(path)), "needed but not uploaded").toEqual([]);
    const wanted = new Set([...graph.all, "deno.json"]);
    expect([...uploaded].filter((path) => !wanted.has(path)), "uploaded but not needed").toEqual([]);
    expect([...upload.files.values()].some((text) => text.includes(DECOY))).toBe(false);
  });

  test("travels with the settings of supabase/config.toml", () => {
    expect(upload).toMatchObject({
      slug: name,
      metadata: {
        name,
        entrypoint_path: `supabase/functions/${name}/index.ts`,
        import_map_path: "deno.json",
        // The gateway's callers bring keys, which are no JSON Web Tokens; the function checks them itself.
        verify_jwt: false,
      },
    });
  });

  test("travels with an import map that the hosted bundler can follow", () => {
    const config = JSON.parse(upload.files.get("deno.json")!);
    // The bundler obeys this setting, and there is no node_modules folder where it works.
    expect(config.nodeModulesDir).not.toBe("manual");
    expect(config.workspace).toBeUndefined();
    const exact = /^npm:\/?(@[^/@]+\/)?[^/@]+@\d+\.\d+\.\d+[^^~*]*$/;
    for (const target of Object.values(config.imports)) expect(target).toMatch(exact);
  });

  test("runs from what was uploaded, and refuses anonymous callers", async () => {
    const [closed] = freePorts(1);
    const hosted = await hostUpload(upload, {
      folder: await emptyFolder(name),
      npm: { registry: registry.url, cache: `${folder.path}/npm` },
      env: {
        SUPABASE_URL: `http://127.0.0.1:${closed}`,
        SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: "sb_publishable_of_a_test" }),
        SUPABASE_SECRET_KEYS: JSON.stringify({ default: SECRET_KEY }),
        SUPABASE_DB_URL: `postgresql://postgres:postgres@127.0.0.1:${closed}/postgres`,
      },
    });
    try {
      const call = async (headers: Record<string, string>) => {
        const response = await fetch(hosted.url, {
          method: "POST",
          headers: { "content-type": "application/json", ...headers },
          body: JSON.stringify({ model: "gemma-4-31b-it", prompt: "Hello", mode: "no_wait" }),
        });
        return { status: response.status, body: await response.json() };
      };
      // The token endpoint speaks OAuth's form.
      const error = name === "issue-kaggle-token" ? "invalid_client" : { code: "credential_missing" };
      expect(await call({})).toMatchObject({ status: 401, body: { error } });
      if (name === "llm-invoke") {
        // A database that is not there is as far as a call gets here, and it has come past every module by then.
        expect(await call({ apikey: SECRET_KEY })).toMatchObject({
          status: 503,
          body: { error: { code: "database_unavailable" } },
        });
      }
    } finally {
      await hosted.stop();
    }
  });
});

test("what they load is of the versions that package-lock.json has, though newer ones would do", async () => {
  const { packages } = JSON.parse(await Deno.readTextFile(`${CHECKOUT}/package-lock.json`));
  expect(registry.fetched.size).toBeGreaterThan(20);
  // What is fetched and not run: types alone, and what linkedom asks for and has in linkedom/worker, which is one file.
  const notRun = new Set(["@tokenizer/token", ...belowOf("linkedom", packages)]);
  expect(await Deno.readTextFile(`${CHECKOUT}/node_modules/linkedom/worker.js`)).not.toMatch(
    /^(import|export .* from)\b/m,
  );
  const others = [...registry.fetched].filter((fetched) => {
    const at = fetched.lastIndexOf("@");
    const name = fetched.slice(0, at);
    return !notRun.has(name) && packages[`node_modules/${name}`]?.version !== fetched.slice(at + 1);
  });
  expect(others).toEqual([]);
});

async function emptyFolder(name: string): Promise<string> {
  const path = `${folder.path}/hosted-${name}`;
  await Deno.mkdir(path);
  return path;
}

test("what docs/deploy.md says of removal leaves no function and no secret", async () => {
  expect([...api.functions.keys()].sort()).toEqual(FUNCTIONS);
  const removal = section(readPage("docs/deploy.md"), "Remove it");
  const [commands] = codeBlocks(removal, "sh");
  for (const name of ["GOOGLE_API_KEY_ONE", "GOOGLE_API_KEY_TWO", ...SECRETS]) {
    api.secrets.set(name, "secret");
  }
  for (const line of commands!.trim().split("\n")) {
    const [npx, supabase, ...args] = line.split(" ");
    expect([npx, supabase]).toEqual(["npx", "supabase"]);
    const all = [...args, `--remote=${REF}`, "--yes"];
    const done = await runSupabase(checkout.root, all, await cliAccount(api, `${folder.path}/home`));
    expect(done, line).toMatchObject({ success: true });
  }
  expect([[...api.functions.keys()], [...api.secrets.keys()]]).toEqual([[], []]);
});

/** Every package that one asks for, however far below it. */
function belowOf(
  name: string,
  packages: Record<string, { dependencies?: Record<string, string> }>,
  found = new Set<string>(),
): Set<string> {
  for (const below of Object.keys(packages[`node_modules/${name}`]?.dependencies ?? {})) {
    if (found.has(below)) continue;
    found.add(below);
    belowOf(below, packages, found);
  }
  return found;
}
