/** `npm run pack`: makes the npm package `eve-gateway`, with which people bring the gateway into a repository of theirs. */
import { parseArgs } from "node:util";
import { build } from "vite";
import { downgradesFolder, migrationsFolder } from "../cli/eve/db/history.ts";
import { hashOf } from "../cli/install/hash.ts";
import { type Manifest, SHARED } from "../cli/install/payload.ts";
import { moduleGraph } from "./module_graph.ts";
import { CHECKOUT } from "./paths.ts";

export interface PackOptions {
  /** The checkout to pack, without a trailing slash. */
  root: string;
  /** An existing folder, in which the package's folder is made. */
  out: string;
  /** Instead of the checkout's. */
  version?: string;
}

/** Makes the package as a folder. @returns its path */
export async function makePackage({ root, out, version }: PackOptions): Promise<string> {
  const folder = `${out}/eve-gateway`;
  await Deno.mkdir(folder, { recursive: true });
  const own = JSON.parse(await Deno.readTextFile(`${root}/package.json`));
  const release = version ?? own.version;
  await Promise.all([
    writePayload(root, `${folder}/payload`, release),
    bundle(root, folder),
    Deno.copyFile(`${root}/LICENSE`, `${folder}/LICENSE`),
    Deno.writeTextFile(`${folder}/README.md`, README),
    Deno.writeTextFile(
      `${folder}/package.json`,
      `${
        JSON.stringify(
          {
            name: own.name,
            version: release,
            description: own.description,
            license: own.license,
            type: "module",
            engines: own.engines,
            bin: { "eve-gateway": "eve-gateway.mjs" },
            files: ["eve-gateway.mjs", "payload"],
          },
          null,
          2,
        )
      }\n`,
    ),
  ]);
  return folder;
}

const README = `# eve-gateway

Brings EVE Gateway, an LLM gateway that lives inside one Supabase project, into a repository that has such a project:

    npx eve-gateway init

\`npx eve-gateway --help\` has the rest.
`;

const CHECK = "00000000000000_names.sql";

/** Functions and what they import, migrations with their ways down, and the list of all. */
async function writePayload(root: string, folder: string, version: string): Promise<void> {
  const source = `${root}/supabase/functions`;
  const names = [...Deno.readDirSync(source)].filter(({ isDirectory }) => isDirectory).map(({ name }) => name)
    .sort();
  const { imports } = JSON.parse(await Deno.readTextFile(`${root}/deno.json`));
  const functions: Manifest["functions"] = {};
  const written = new Set<string>();
  const write = async (path: string, text: string) => {
    if (written.has(path)) return;
    written.add(path);
    await Deno.mkdir(`${folder}/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
    await Deno.writeTextFile(`${folder}/${path}`, text);
  };
  await Promise.all(names.map(async (name) => {
    const graph = await moduleGraph(root, `supabase/functions/${name}/index.ts`);
    if (graph.errors.length > 0) throw new Error(graph.errors.join("\n"));
    const files = [`${name}/deno.json`];
    await write(
      `functions/${name}/deno.json`,
      `${JSON.stringify({ imports: pick(imports, graph.packages) }, null, 2)}\n`,
    );
    for (const path of [...graph.all].sort()) {
      const text = await Deno.readTextFile(`${root}/${path}`);
      const target = path.replace(/^supabase\/functions\//, "").replace(/^shared\//, `${SHARED}/`);
      files.push(target);
      await write(
        `functions/${target}`,
        path.startsWith("shared/") ? text : text.replaceAll('"../../../shared/', `"../${SHARED}/`),
      );
    }
    functions[name] = files;
  }));
  // Before all others, where they come into a database with tables of its own.
  const check = await Deno.readTextFile(`${root}/supabase/install_check.sql`);
  const migrations: Manifest["migrations"] = [{ name: CHECK, sha256: hashOf(check) }];
  await write(`migrations/${CHECK}`, check);
  await write(`downgrades/${CHECK}`, "-- It makes nothing.\n");
  for (
    const { name } of [...Deno.readDirSync(migrationsFolder(root))].sort((a, b) => a.name < b.name ? -1 : 1)
  ) {
    if (!name.endsWith(".sql")) continue;
    const text = await Deno.readTextFile(`${migrationsFolder(root)}/${name}`);
    migrations.push({ name, sha256: hashOf(text) });
    await write(`migrations/${name}`, text);
  }
  for (const { name } of Deno.readDirSync(downgradesFolder(root))) {
    await write(`downgrades/${name}`, await Deno.readTextFile(`${downgradesFolder(root)}/${name}`));
  }
  await write("uninstall.sql", await Deno.readTextFile(`${root}/supabase/uninstall.sql`));
  const manifest: Manifest = { version, functions, migrations };
  await write("manifest.json", JSON.stringify(manifest));
}

/** Of an import map, what these specifiers need. */
function pick(imports: Record<string, string>, specifiers: ReadonlySet<string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(imports).filter(([key]) =>
      [...specifiers].some((specifier) => key.endsWith("/") ? specifier.startsWith(key) : specifier === key)
    ),
  );
}

/** The command as one file that Node runs, with the libraries it needs in it. */
async function bundle(root: string, folder: string): Promise<void> {
  await build({
    root,
    configFile: false,
    logLevel: "warn",
    ssr: { noExternal: true, target: "node" },
    build: {
      ssr: `${root}/cli/install/eve_gateway.ts`,
      outDir: folder,
      emptyOutDir: false,
      target: "node20",
      minify: true,
      rollupOptions: {
        output: { format: "es", entryFileNames: "eve-gateway.mjs", banner: "#!/usr/bin/env node" },
      },
    },
  });
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { out: { type: "string", default: `${CHECKOUT}/.local/package` } },
  });
  await Deno.mkdir(values.out, { recursive: true });
  const folder = await makePackage({ root: CHECKOUT, out: values.out });
  const { success, stdout, stderr } = await new Deno.Command("npm", {
    args: ["pack", "--silent", "--pack-destination", values.out],
    cwd: folder,
  }).output();
  if (!success) {
    console.error(new TextDecoder().decode(stderr));
    Deno.exit(1);
  }
  console.log(`${values.out}/${new TextDecoder().decode(stdout).trim()}`);
}
