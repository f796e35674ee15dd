/** What npm scripts install before they run: from a registry on the loopback interface, into a folder of its own. */
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { CHECKOUT } from "../../local/paths.ts";
import { startNpmRegistry } from "../deploy/npm_registry.ts";
import { makeTestFolder, type TestFolder } from "../harness/folders.ts";

/** Two small packages of the checkout: one that "serves", one for "development". */
const SERVING = "tslib";
const DEVELOPMENT = "ms";

let registry: Awaited<ReturnType<typeof startNpmRegistry>>;
let parent: TestFolder;
let folder: string;
let cache: string;

beforeAll(async () => {
  registry = await startNpmRegistry();
  parent = await makeTestFolder();
});
afterAll(async () => {
  await registry?.stop();
  await parent?.remove();
});

beforeEach(async () => {
  folder = await Deno.makeTempDir({ dir: parent.path });
  cache = await Deno.makeTempDir({ dir: parent.path });
  const [serving, development] = [await versionOf(SERVING), await versionOf(DEVELOPMENT)];
  const manifest = {
    name: "a-checkout",
    version: "1.0.0",
    dependencies: { [SERVING]: serving },
    devDependencies: { [DEVELOPMENT]: development },
  };
  const lock = {
    name: "a-checkout",
    version: "1.0.0",
    lockfileVersion: 3,
    packages: {
      "": manifest,
      [`node_modules/${SERVING}`]: { version: serving },
      [`node_modules/${DEVELOPMENT}`]: { version: development, dev: true },
    },
  };
  await Deno.writeTextFile(`${folder}/package.json`, JSON.stringify(manifest));
  await Deno.writeTextFile(`${folder}/package-lock.json`, JSON.stringify(lock));
});

async function versionOf(name: string): Promise<string> {
  return JSON.parse(await Deno.readTextFile(`${CHECKOUT}/node_modules/${name}/package.json`)).version;
}

/** An npm script's launcher that installs what it needs; it prints `done` at the end. */
function install({ development = false, from = registry.url } = {}) {
  const code = `
    import { installIfNeeded } from ${JSON.stringify(`file://${CHECKOUT}/local/packages.mjs`)};
    await installIfNeeded({ folder: ${JSON.stringify(folder)}, development: ${development} })
      .then(() => console.log("done"), (error) => console.log(error.message));
  `;
  return new Deno.Command("node", {
    args: ["--input-type=module", "-e", code],
    env: { npm_config_registry: from, npm_config_cache: cache, npm_lifecycle_event: "" },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** The registry at another address, whose packages come from `answer`. */
function inFrontOfTheRegistry(answer: (path: string) => Response | Promise<Response>) {
  const server: Deno.HttpServer<Deno.NetAddr> = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    onListen: () => {},
  }, async (request): Promise<Response> => {
    const path = new URL(request.url).pathname.slice(1);
    if (path.includes("/-/")) return await answer(path);
    const found = await fetch(`${registry.url}${path}`);
    return new Response((await found.text()).replaceAll(registry.url, url), { status: found.status });
  });
  const url: string = `http://127.0.0.1:${server.addr.port}/`;
  return { url, stop: () => server.shutdown() };
}

async function linesOf(process: Deno.ChildProcess): Promise<string[]> {
  const { stdout, stderr } = await process.output();
  const decoder = new TextDecoder();
  return `${decoder.decode(stdout)}${decoder.decode(stderr)}`.trim().split("\n");
}

/** The packages that are there, and whatever else is in the folder beside its two files. */
function installed(): string[] {
  const names = (path: string) => {
    try {
      return [...Deno.readDirSync(path)].map(({ name }) => name);
    } catch {
      return [];
    }
  };
  return [
    ...names(folder).filter((name) => !["package.json", "package-lock.json", "node_modules"].includes(name)),
    ...names(`${folder}/node_modules`).filter((name) => !name.startsWith(".")),
  ].sort();
}

test("serving installs its own packages; development adds the others, and touches nothing that is there", async () => {
  expect((await linesOf(install())).at(-1)).toBe("done");
  expect(installed()).toEqual([SERVING]);
  // A stack may be running from these files.
  const inode = (await Deno.stat(`${folder}/node_modules/${SERVING}/package.json`)).ino;
  expect((await linesOf(install({ development: true }))).at(-1)).toBe("done");
  expect(installed()).toEqual([DEVELOPMENT, SERVING]);
  expect((await Deno.stat(`${folder}/node_modules/${SERVING}/package.json`)).ino).toBe(inode);
  expect(await linesOf(install({ development: true })), "nothing is left to do").toEqual(["done"]);
  expect(await linesOf(install()), "what is more does no harm").toEqual(["done"]);
});

test("a package of the checkout for development stays away from serving, with all that it needs", async () => {
  await Deno.copyFile(`${CHECKOUT}/.npmrc`, `${folder}/.npmrc`);
  await Deno.mkdir(`${folder}/tool`);
  const version = await versionOf(DEVELOPMENT);
  const tool = { name: "tool", version: "1.0.0", optionalDependencies: { [DEVELOPMENT]: version } };
  await Deno.writeTextFile(`${folder}/tool/package.json`, JSON.stringify(tool));
  const manifest = JSON.parse(await Deno.readTextFile(`${folder}/package.json`));
  manifest.devDependencies = { tool: "file:tool" };
  await Deno.writeTextFile(`${folder}/package.json`, JSON.stringify(manifest));
  await Deno.remove(`${folder}/package-lock.json`);
  const lock = await new Deno.Command("npm", {
    args: ["install", "--package-lock-only"],
    cwd: folder,
    env: { npm_config_registry: registry.url, npm_config_cache: cache },
  }).output();
  expect(new TextDecoder().decode(lock.stderr)).toBe("");

  const others = [".npmrc", "tool"];
  expect((await linesOf(install())).at(-1)).toBe("done");
  expect(installed()).toEqual([...others, SERVING].sort());
  expect(await linesOf(install()), "nothing is missed").toEqual(["done"]);
  expect([...Deno.readDirSync(`${folder}/tool`)].map(({ name }) => name)).toEqual(["package.json"]);
  expect((await linesOf(install({ development: true }))).at(-1)).toBe("done");
  expect(installed()).toEqual([...others, DEVELOPMENT, SERVING, "tool"].sort());
});

test("what a package would like to have beside itself is not for serving", async () => {
  const lock = JSON.parse(await Deno.readTextFile(`${folder}/package-lock.json`));
  const manifest = JSON.parse(await Deno.readTextFile(`${folder}/package.json`));
  for (const root of [manifest, lock.packages[""]]) {
    root.peerDependencies = root.devDependencies;
    delete root.devDependencies;
  }
  const entry = lock.packages[`node_modules/${DEVELOPMENT}`];
  delete entry.dev;
  entry.peer = true;
  await Deno.writeTextFile(`${folder}/package.json`, JSON.stringify(manifest));
  await Deno.writeTextFile(`${folder}/package-lock.json`, JSON.stringify(lock));
  expect((await linesOf(install())).at(-1)).toBe("done");
  expect(installed()).toEqual([SERVING]);
  expect((await linesOf(install({ development: true }))).at(-1)).toBe("done");
  expect(installed()).toEqual([DEVELOPMENT, SERVING]);
});

test("a package that is missing from node_modules is put back", async () => {
  await linesOf(install());
  await Deno.remove(`${folder}/node_modules/${SERVING}`, { recursive: true });
  expect((await linesOf(install())).at(-1)).toBe("done");
  expect(installed()).toEqual([SERVING]);
});

test("an installation that was killed in the middle is made again", async () => {
  const asked = Promise.withResolvers<void>();
  const stuck = inFrontOfTheRegistry(() => {
    asked.resolve();
    // Half of a package, and no end.
    return new Response(new ReadableStream({ start: (out) => out.enqueue(new Uint8Array(100)) }));
  });
  await linesOf(install());
  const cut = install({ development: true, from: stuck.url });
  await asked.promise;
  // What npm had begun to write.
  await Deno.mkdir(`${folder}/node_modules/${DEVELOPMENT}`, { recursive: true });
  await Deno.writeTextFile(
    `${folder}/node_modules/${DEVELOPMENT}/package.json`,
    JSON.stringify({ name: DEVELOPMENT, version: await versionOf(DEVELOPMENT) }),
  );
  const [, npm] = (await Deno.readTextFile(`${folder}/.installing`)).trim().split("\n").map(Number);
  for (const pid of [cut.pid, npm!]) Deno.kill(pid, "SIGKILL");
  await cut.output();
  await stuck.stop();

  expect((await linesOf(install({ development: true }))).at(-1)).toBe("done");
  expect(installed()).toEqual([DEVELOPMENT, SERVING]);
  expect((await Deno.stat(`${folder}/node_modules/${DEVELOPMENT}/index.js`)).isFile).toBe(true);
});

test("two scripts that begin at once do not work against each other", async () => {
  const both = await Promise.all([linesOf(install()), linesOf(install({ development: true }))]);
  expect(both.map((lines) => lines.at(-1))).toEqual(["done", "done"]);
  expect(installed()).toEqual([DEVELOPMENT, SERVING]);
});

test("no registry: npm's cache is enough, and without it the reason is shown", async () => {
  const nowhere = "http://127.0.0.1:9/";
  expect((await linesOf(install({ from: nowhere }))).at(-1)).toMatch(
    /^npm ci failed: no npm registry answers \(ECONNREFUSED\)\. Connect to the network/,
  );
  const gone = inFrontOfTheRegistry((path) => fetch(`${registry.url}${path}`));
  await linesOf(install({ from: gone.url }));
  await gone.stop();
  await Deno.remove(`${folder}/node_modules`, { recursive: true });
  expect((await linesOf(install({ from: gone.url }))).at(-1)).toBe("done");
});

test("a registry that never answers is one that is not there", async () => {
  const silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const held: Deno.Conn[] = [];
  (async () => {
    for await (const connection of silent) held.push(connection);
  })();
  try {
    const port = (silent.addr as Deno.NetAddr).port;
    expect((await linesOf(install({ from: `http://127.0.0.1:${port}/` }))).at(-1)).toMatch(
      /^npm ci failed: no npm registry answers \(\w+\)\./,
    );
  } finally {
    silent.close();
    for (const connection of held) connection.close();
  }
});

test.skipIf(Deno.build.os === "windows")(
  "the Supabase CLI is of one version everywhere: where the lock has no binary, npx fetches that",
  async () => {
    const place = `${CHECKOUT}/local/supabase_cli_package`;
    for (const name of ["package.json", "supabase.mjs"]) {
      await Deno.copyFile(`${place}/${name}`, `${folder}/${name}`);
    }
    await Deno.writeTextFile(`${folder}/npx`, '#!/bin/sh\nprintf "%s\\n" "$@"\nexit 3\n');
    await Deno.chmod(`${folder}/npx`, 0o755);
    const run = await new Deno.Command("node", {
      args: [`${folder}/supabase.mjs`, "db", "push", "--yes"],
      env: { PATH: `${folder}:${Deno.env.get("PATH")}` },
    }).output();
    const { version } = JSON.parse(await Deno.readTextFile(`${place}/package.json`));
    expect(new TextDecoder().decode(run.stdout).trim().split("\n")).toEqual(
      ["--yes", "--loglevel=error", `--package=supabase@${version}`, "--", "supabase", "db", "push", "--yes"],
    );
    expect(run.code).toBe(3);
  },
);
