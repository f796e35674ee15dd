import { parse } from "smol-toml";
import { runIn } from "../../../cli/release/run.ts";
import { describe, expect, test } from "vitest";
import {
  type Files,
  licensesOf,
  LOCKS,
  problems,
  sectionOf,
  withoutIntegrity,
} from "../../../cli/release/checks.ts";
import { CHECKOUT } from "../../../local/paths.ts";

const read = (path: string) => {
  try {
    return Deno.readTextFileSync(`${CHECKOUT}/${path}`);
  } catch {
    return undefined;
  }
};

const READY: Record<string, string> = {
  "package.json": '{"version":"1.2.3"}',
  "console/package.json": '{"version":"1.2.3"}',
  "shared/contract/version.ts": 'export const VERSION = "1.2.3";',
  "clients/python/eve_gateway.py": '__version__ = "1.2.3"\n',
  "CHANGELOG.md": "# Changelog\n\n## 1.2.3, 2026-11-23\n\n- A thing.\n\n## 1.2.2, 2026-01-01\n\n- Other.\n",
  "package-lock.json": '{"packages":{"":{},"node_modules/a":{"version":"1.0.0","integrity":"sha512-x"}}}',
  "supabase/migrations.sha256": "abc  migrations/1_a.sql\n",
};
const files = (changed: Record<string, string>, migrations = ["1_a.sql"]): Files => ({
  read: (path) => ({ ...READY, ...changed })[path],
  list: () => migrations,
});

describe("a version is not released", () => {
  test("unless all is in order", () => {
    expect(problems(files({}))).toEqual([]);
  });

  test.each([
    [
      "with another version somewhere",
      { "console/package.json": '{"version":"1.2.2"}' },
      "console/package.json",
    ],
    ["with another version in Python's package", {
      "clients/python/eve_gateway.py": '__version__ = "1"\n',
    }, "eve_gateway.py"],
    ["of which the changelog says nothing", { "CHANGELOG.md": "# Changelog\n" }, 'no section "## 1.2.3'],
    ["without its day", { "CHANGELOG.md": "## 1.2.3, unreleased\n\n- A thing.\n" }, "does not say when"],
    ["with a package that npm would not look at", {
      "package-lock.json": '{"packages":{"node_modules/b":{"version":"1.0.0"}}}',
    }, "node_modules/b has no integrity"],
    ["with a version that is none", { "package.json": '{"version":"next"}' }, "not of the form"],
  ])("%s", (_, changed, said) => {
    expect(problems(files(changed)).join("\n")).toContain(said);
  });

  test("with a migration whose checksum is not kept", () => {
    expect(problems(files({}, ["1_a.sql", "2_b.sql"]))).toEqual([expect.stringContaining("2_b.sql is not")]);
    expect(problems(files({}, ["1_a.sql", "2_b.sql", "3_c.sql"]))).toEqual([
      expect.stringContaining("2 migrations, 2_b.sql among them, are not"),
    ]);
  });
});

test("the version stands in one place and its copies are equal", () => {
  const wrong = problems({ read, list: () => [] });
  expect(wrong.filter((line) => line.includes("has the version"))).toEqual([]);
  expect(sectionOf(read("CHANGELOG.md")!, JSON.parse(read("package.json")!).version)).toBeDefined();
});

test.each(LOCKS)(
  "%s: npm looks at all that it installs, on every system",
  (path) => expect(withoutIntegrity(read(path)!)).toEqual([]),
);

test("what travels is allowed to: no license asks more than to be named", () => {
  // Vite makes the console's files with it; it is not in them.
  const tools = ["lightningcss"];
  const allowed =
    /^\(?(MIT(-0)?|ISC|0BSD|BSD-[23]-Clause|Apache-2\.0|Unlicense|CC0-1\.0|BlueOak-1\.0\.0|Python-2\.0)( (AND|OR) [\w.-]+)*\)?$/;
  for (
    const [lock, manifest] of [["package-lock.json", "package.json"], [
      "console/package-lock.json",
      "console/package.json",
    ]]
  ) {
    const names = Object.keys(JSON.parse(read(manifest!)!).dependencies);
    const licenses = licensesOf(read(lock!)!, names);
    expect(licenses.length).toBeGreaterThan(names.length - 1);
    expect(licenses.filter(({ name, license }) => !allowed.test(license) && !tools.includes(name))).toEqual(
      [],
    );
  }
});

test("the workflows run what the README says, with actions of a stated version", () => {
  const ci = read(".github/workflows/ci.yml")!;
  const release = read(".github/workflows/release.yml")!;
  expect(ci).toContain("run: .ci/run");
  for (const [, version] of `${ci}${release}`.matchAll(/uses: \S+@(\S+)/g)) {
    expect(version).toMatch(/^(v\d+\.\d+\.\d+|[0-9a-f]{40})$/);
  }
});

test("a program's words are given back or shown, and its failure is one", async () => {
  const run = runIn(Deno.cwd());
  expect(await run("echo", ["two", "words"])).toBe("two words");
  expect(await run("true", [], { show: true })).toBe("");
  await expect(run("false", [], { show: true })).rejects.toThrow("false  failed.");
});

test("Python's package has every module that there is", () => {
  const { tool } = parse(read("clients/python/pyproject.toml")!) as unknown as {
    tool: {
      hatch: { build: { targets: Record<string, { "force-include": object; "only-include": string[] }> } };
    };
  };
  const { wheel, sdist } = tool.hatch.build.targets;
  const modules = [...Deno.readDirSync("clients/python")].map(({ name }) => name).filter((name) =>
    name.endsWith(".py")
  ).concat("py.typed").sort();
  expect(Object.keys(wheel!["force-include"]).sort()).toEqual(modules);
  expect(sdist!["only-include"].toSorted()).toEqual(modules);
});
