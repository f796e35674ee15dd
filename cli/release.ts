/** `npm run release`: checks a version, runs what CI runs, makes what is published, and tags. Publishing is the owner's. */
import { parseArgs } from "node:util";
import { makePackage } from "../local/pack.ts";
import { CHECKOUT } from "../local/paths.ts";
import { safeForTerminal } from "./eve/terminal.ts";
import { hashOf } from "./install/hash.ts";
import { runIn } from "./release/run.ts";
import {
  type Files,
  licensesOf,
  LOCKS,
  problems,
  sectionOf,
  versionOf,
  withoutIntegrity,
} from "./release/checks.ts";

const USAGE = `Releases the version that stands in package.json.

  npm run release [-- options]

  --check       says what is not in order, and stops
  --fill-locks  writes the integrity that lockfiles lack, as the registry tells it, and stops
  --skip-ci     does not run .ci/run
  --no-tag      makes the files, and no tag
  --tagged      the tag is there: the files are made again, from it
  --out FOLDER  where they go (default: .local/release)`;

const run = runIn(CHECKOUT);

const files: Files = {
  read(path) {
    try {
      return Deno.readTextFileSync(`${CHECKOUT}/${path}`);
    } catch {
      return undefined;
    }
  },
  list: (path) => [...Deno.readDirSync(`${CHECKOUT}/${path}`)].map(({ name }) => name),
};

/** npm notes no integrity for packages of other systems that it did not fetch. Throws, when all the rest is written, if some are unknown. */
async function fillLocks(): Promise<void> {
  const unknown: string[] = [];
  for (const path of LOCKS) {
    const text = files.read(path);
    if (text === undefined) continue;
    const lock = JSON.parse(text);
    for (const entry of withoutIntegrity(text)) {
      const name = `${entry.slice(entry.lastIndexOf("node_modules/") + "node_modules/".length)}@${
        lock.packages[entry].version
      }`;
      const integrity = await run("npm", ["view", name, "dist.integrity"], { quiet: true }).catch(() => "");
      if (/^sha512-/.test(integrity)) lock.packages[entry].integrity = integrity;
      else unknown.push(name);
    }
    await Deno.writeTextFile(`${CHECKOUT}/${path}`, `${JSON.stringify(lock, null, 2)}\n`);
  }
  if (unknown.length > 0) {
    throw new Error(`The registry that npm asks here does not have: ${unknown.join(", ")}.`);
  }
}

/** What is published, in a folder of its own. @returns its files */
async function makeFiles(out: string, version: string): Promise<string[]> {
  await Deno.remove(out, { recursive: true }).catch(() => {});
  await Deno.mkdir(out, { recursive: true });
  const folder = await makePackage({ root: CHECKOUT, out: await Deno.makeTempDir() });
  await run("npm", ["pack", "--silent", "--pack-destination", out], { cwd: folder });
  await run("npm", ["run", "--silent", "console:build"], { show: true });
  await run("tar", ["czf", `${out}/eve-gateway-console-${version}.tgz`, "-C", "console", "dist"]);
  if (files.read("clients/python/pyproject.toml") !== undefined) {
    await run("python3", [
      "-m",
      "pip",
      "wheel",
      "--quiet",
      "--no-deps",
      "--wheel-dir",
      out,
      "clients/python",
    ]);
  }
  await Deno.writeTextFile(
    `${out}/sbom.cdx.json`,
    await run("npm", ["sbom", "--sbom-format", "cyclonedx", "--omit", "dev"]),
  );
  await Deno.writeTextFile(`${out}/licenses.txt`, licenses());
  await Deno.writeTextFile(`${out}/notes.md`, `${sectionOf(files.read("CHANGELOG.md")!, version)!.text}\n`);
  const names = [...Deno.readDirSync(out)].map(({ name }) => name).sort();
  const sums = await Promise.all(
    names.map(async (name) => `${hashOf(await Deno.readFile(`${out}/${name}`))}  ${name}`),
  );
  await Deno.writeTextFile(`${out}/SHA256SUMS`, `${sums.join("\n")}\n`);
  return [...names, "SHA256SUMS"];
}

/** Of what travels: to the project with the functions, and to the browser with the console. */
function licenses(): string {
  const parts = [["package-lock.json", "package.json"], [
    "console/package-lock.json",
    "console/package.json",
  ]] as const;
  return parts.map(([lock, manifest]) => {
    const { dependencies } = JSON.parse(files.read(manifest)!);
    return licensesOf(files.read(lock)!, Object.keys(dependencies)).map(({ name, version, license }) =>
      `${name}@${version}  ${license}`
    ).join("\n");
  }).join("\n\n") + "\n";
}

const { values } = parseArgs({
  options: {
    check: { type: "boolean" },
    "fill-locks": { type: "boolean" },
    "skip-ci": { type: "boolean" },
    "no-tag": { type: "boolean" },
    tagged: { type: "boolean" },
    out: { type: "string", default: `${CHECKOUT}/.local/release` },
    help: { type: "boolean", short: "h" },
  },
});

const say = (line: string) => console.log(safeForTerminal(line, false));
const complain = (line: string) => console.error(safeForTerminal(line, false));

async function release(): Promise<number> {
  if (values.help) {
    say(USAGE);
    return 0;
  }
  if (values["fill-locks"]) {
    await fillLocks();
    return 0;
  }
  const version = versionOf(files.read);
  const wrong = problems(files);
  if (await run("git", ["status", "--porcelain"]) !== "") {
    wrong.push("There are changes that are not committed.");
  }
  const isTagged = await run("git", ["tag", "--points-at", "HEAD", "--list", `v${version}`]) !== "";
  if (values.tagged && !isTagged) wrong.push(`This commit is not tagged v${version}.`);
  if (!values.tagged && await run("git", ["tag", "--list", `v${version}`]) !== "") {
    wrong.push(`There is a tag v${version} already.`);
  }
  if (wrong.length > 0 || values.check) {
    for (const line of wrong) complain(line);
    if (wrong.length === 0) say(`${version} may be released.`);
    return wrong.length === 0 ? 0 : 1;
  }
  if (!values["skip-ci"]) await run(".ci/run", [], { show: true });
  for (const name of await makeFiles(values.out, version)) say(`${values.out}/${name}`);
  if (!values["no-tag"]) {
    await run("git", ["tag", "--annotate", `v${version}`, "--message", `EVE Gateway ${version}`]);
    say(
      `Tagged v${version}. What is left is the owner's: git push --tags, npm publish, and the tag's page.`,
    );
  }
  return 0;
}

try {
  Deno.exitCode = await release();
} catch (error) {
  complain((error as Error).message);
  Deno.exitCode = 1;
}
