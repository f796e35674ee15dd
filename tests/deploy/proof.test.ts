/**
 * The proof of deployment proves something: mistakes that go unnoticed in a checkout, and break a function on the host, are
 * noticed. Also what the Supabase CLI is known to do with imports, so that an upgrade which changes it is seen.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { CHECKOUT } from "../../local/paths.ts";
import { makeTestFolder, type TestFolder } from "../harness/folders.ts";
import { ACCESS_TOKEN, cliAccount } from "./cli_account.ts";
import { hostUpload } from "./hosted_function.ts";
import { type ManagementApi, startManagementApi, type Upload } from "./management_api.ts";
import { moduleGraph } from "../../local/module_graph.ts";
import { type NpmRegistry, startNpmRegistry } from "./npm_registry.ts";
import { runSupabase } from "./run_supabase.ts";

const REF = "abcdefghijklmnopqrst";
/** One package that the checkout has installed, at the version it has. */
const IMPORTS = { jose: JSON.parse(Deno.readTextFileSync(`${CHECKOUT}/deno.json`)).imports.jose };
const SERVE = "export default { fetch: () => new Response('hello') };\n";

let folder: TestFolder;
let api: ManagementApi;
let registry: NpmRegistry;

beforeAll(async () => {
  [folder, registry] = await Promise.all([makeTestFolder(), startNpmRegistry()]);
  await Deno.mkdir(`${folder.path}/home`);
  api = startManagementApi({ ref: REF, name: "a test", accessToken: ACCESS_TOKEN });
});

afterAll(async () => {
  await Promise.all([api?.stop(), registry?.stop(), folder?.remove()]);
});

const INDEX = "supabase/functions/tried/index.ts";

/** Deploys a function that consists of these files, with the layout of this project. */
async function uploadOf(
  index: string,
  others: Record<string, string>,
): Promise<{ upload: Upload; root: string }> {
  const root = await Deno.makeTempDir({ dir: folder.path });
  const files: Record<string, string> = {
    "deno.json": JSON.stringify({ imports: IMPORTS }),
    "supabase/config.toml":
      `project_id = "test"\n[functions.tried]\nverify_jwt = false\nimport_map = "../deno.json"\n`,
    [INDEX]: index,
    ...others,
  };
  await Deno.mkdir(`${root}/supabase/functions/tried`, { recursive: true });
  await Deno.mkdir(`${root}/shared`);
  for (const [path, text] of Object.entries(files)) await Deno.writeTextFile(`${root}/${path}`, text);
  const done = await runSupabase(
    root,
    ["functions", "deploy", "tried", "--use-api", `--remote=${REF}`, "--yes"],
    await cliAccount(api, `${folder.path}/home`),
  );
  expect(done).toMatchObject({ success: true });
  return { upload: api.uploads.at(-1)!, root };
}

/** An upload as the CLI would have made it. */
function handMade(index: string, config: Record<string, unknown> = {}): Upload {
  return {
    slug: "tried",
    files: new Map([["deno.json", JSON.stringify({ imports: IMPORTS, ...config })], [INDEX, index]]),
    metadata: { entrypoint_path: INDEX, import_map_path: "deno.json" },
  };
}

async function host(upload: Upload) {
  return await hostUpload(upload, {
    folder: await Deno.makeTempDir({ dir: folder.path }),
    npm: { registry: registry.url, cache: `${folder.path}/npm` },
    env: {},
  });
}

test("imports of every static form travel, also over several lines and for types only", async () => {
  const { upload } = await uploadOf(
    `import {
       one,
     } from "../../../shared/one.ts";
     import type { Two } from "../../../shared/two.ts";
     import "../../../shared/effect.ts";
     export { three } from "../../../shared/three.ts";
     import data from "../../../shared/data.json" with { type: "json" };
     import { SignJWT } from "jose";
     const two: Two = one;
     export default { fetch: () => Response.json([two, data, typeof SignJWT]) };`,
    {
      "shared/one.ts": "export const one = 1;",
      "shared/two.ts": "export type Two = number;",
      "shared/effect.ts": "export {};",
      "shared/three.ts": "export * from './four.ts';\nexport const three = 3;",
      "shared/four.ts": "export const four = 4;",
      "shared/data.json": "{}",
      "shared/other.ts": "export {};",
    },
  );
  expect([...upload.files.keys()].sort()).toEqual([
    "deno.json",
    "shared/data.json",
    "shared/effect.ts",
    "shared/four.ts",
    "shared/one.ts",
    "shared/three.ts",
    "shared/two.ts",
    "supabase/functions/tried/index.ts",
  ]);
  const hosted = await host(upload);
  expect(await (await fetch(hosted.url)).json()).toEqual([1, {}, "function"]);
  await hosted.stop();
});

test("an import without its ending is left behind without a word, and the proof sees it", async () => {
  const { upload, root } = await uploadOf(`import "../../../shared/one";\n${SERVE}`, {
    "shared/one.ts": "export {};",
  });
  expect([...upload.files.keys()]).not.toContain("shared/one.ts");
  const graph = await moduleGraph(root, INDEX);
  expect(graph.errors).toHaveLength(1);
  await expect(host(upload)).rejects.toThrow("shared/one");
});

test("a package that is installed but not in the import map is noticed", async () => {
  await expect(host(handMade(`import "zod";\n${SERVE}`))).rejects.toThrow("zod");
});

test("an import map that wants a node_modules folder is noticed", async () => {
  const upload = handMade(`import "jose";\n${SERVE}`, { nodeModulesDir: "manual" });
  await expect(host(upload)).rejects.toThrow("node_modules");
});

test("a function that reads a file is noticed", async () => {
  await expect(host(handMade(`Deno.readTextFileSync("deno.json");\n${SERVE}`))).rejects.toThrow(
    "read access",
  );
});
