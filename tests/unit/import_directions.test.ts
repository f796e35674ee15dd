import { describe, expect, test } from "vitest";

/**
 * How high a room stands. It imports from rooms below its own and from itself: functions -> jobs | admin | api -> calls -> endpoints | gateway | identity |
 * maintenance -> batches | vision | crawl | graph -> stages | limits | media | chats | events -> providers | database | tokens | secrets | schema | http -> runtime -> contract.
 */
const HEIGHT: Readonly<Record<string, number>> = {
  functions: 3,
  admin: 2.5,
  api: 2.5,
  jobs: 2.5,
  calls: 2.3,
  endpoints: 2,
  gateway: 2,
  identity: 2,
  maintenance: 2,
  batches: 1.7,
  vision: 1.7,
  telegram: 2.2,
  crawl: 1.7,
  graph: 1.7,
  stages: 1.5,
  limits: 1.5,
  chats: 1.5,
  media: 1.5,
  events: 1.5,
  providers: 1,
  database: 1,
  tokens: 1,
  secrets: 1,
  schema: 1,
  http: 1,
  runtime: 0.5,
  contract: 0,
};

interface Source {
  /** From the checkout's root. */
  path: string;
  text: string;
}

const root = new URL("../../", import.meta.url);

/** Not ours. */
const PACKAGES = new Set(["node_modules", "dist"]);

function sourcesIn(folder: string): Source[] {
  const found: Source[] = [];
  for (const entry of Deno.readDirSync(new URL(`${folder}/`, root))) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) found.push(...(PACKAGES.has(entry.name) ? [] : sourcesIn(path)));
    else if (/\.tsx?$/.test(entry.name)) {
      found.push({ path, text: Deno.readTextFileSync(new URL(path, root)) });
    }
  }
  return found;
}

/** `shared/endpoints/native/endpoint.ts` -> endpoints; everything in supabase/functions -> functions. */
function roomOf(path: string): string | undefined {
  if (path.startsWith("supabase/functions/")) return "functions";
  const room = /^shared\/([a-z]+)\//.exec(path)?.[1];
  return room !== undefined && room in HEIGHT ? room : undefined;
}

const withoutComments = (text: string) =>
  text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/(^|\s)\/\/.*$/gm, "$1");

function importsOf(text: string): string[] {
  const code = withoutComments(text);
  const statements = code.matchAll(/^\s*(?:import|export)\b[^;"']*?\bfrom\s*["']([^"']+)["']/gm);
  const bare = code.matchAll(/^\s*import\s*["']([^"']+)["']/gm);
  return [...statements, ...bare].map((match) => match[1] ?? "");
}

/** Zod as one object (`import { z }`), or all of its core through it: a bundler keeps all of either, with every locale. */
const ZOD_AS_A_WHOLE =
  /\bimport\s+(?:z\b|\{(?:[^}]*,)?\s*z\b[^}]*\})[^"'*;]*from\s*["']zod["']|\bz\.(?:core|locales)\b/;

/** A function has another name where an app has one of its own: see functionUrl(). */
const KNOWS_FUNCTIONS = ["shared/runtime/function_names.ts", "shared/maintenance/connect.ts"];

/** Everything in a file of shared/ or of a function that breaks the rules of imports. */
function faultsOf({ path, text }: Source): string[] {
  const faults: string[] = [];
  const code = withoutComments(text);
  const room = roomOf(path);
  if (room === undefined) return [`${path}: in no room of shared/`];

  for (const specifier of importsOf(text)) {
    if (!specifier.startsWith(".")) {
      if (specifier === "@google/generative-ai" && path !== "shared/providers/google/provider.ts") {
        faults.push(`${path}: only shared/providers/google/provider.ts knows ${specifier}`);
      }
      continue;
    }
    if (!specifier.endsWith(".ts")) {
      faults.push(`${path}: ${specifier} lacks .ts, and deployment would drop it`);
    }
    const target = new URL(specifier, new URL(path, "file:///")).pathname.slice(1);
    const other = roomOf(target);
    if (other === undefined) faults.push(`${path}: ${specifier} leads out of shared/`);
    else if (other !== room && (HEIGHT[other] ?? 0) >= (HEIGHT[room] ?? 0)) {
      faults.push(`${path}: ${room} imports from ${other}`);
    }
  }
  if (/\/functions\/v1\b/.test(code) && !KNOWS_FUNCTIONS.includes(path)) {
    faults.push(`${path}: functionUrl() knows where a function is, and what it is called there`);
  }
  if (/\bimport\s*\(/.test(code)) {
    faults.push(`${path}: imports dynamically, which deployment does not follow`);
  }
  if (ZOD_AS_A_WHOLE.test(code)) {
    faults.push(
      `${path}: import * as z from "zod", and * as core from "zod/v4/core": 360 kB of a bundle less`,
    );
  }
  if (/\bDeno\s*\./.test(code) && !/^supabase\/functions\/[^/]+\/index\.ts$/.test(path)) {
    faults.push(`${path}: uses Deno, which only a function's index.ts may`);
  }
  if (code.includes("/v1beta/$") && path !== "shared/providers/google/fetch.ts") {
    faults.push(`${path}: builds an address of Google's, which only shared/providers/google/fetch.ts may`);
  }
  if (/["'`]eve_[a-z_]+["'`]/.test(code) && room !== "database") {
    faults.push(`${path}: names a SQL function, which only the database room may`);
  }
  return faults;
}

/** Files that import each other, directly or through others: each cycle once, from its first file on. */
function circlesIn(sources: readonly Source[]): string[] {
  const imports = new Map(sources.map(({ path, text }) => [
    path,
    importsOf(text).filter((specifier) => specifier.startsWith("."))
      .map((specifier) => new URL(specifier, new URL(path, "file:///")).pathname.slice(1)),
  ]));
  const cycles = new Set<string>();
  const seen = new Set<string>();
  const follow = (path: string, way: readonly string[]) => {
    const from = way.indexOf(path);
    if (from >= 0) cycles.add(way.slice(from).sort().join(" -> "));
    if (seen.has(path)) return;
    seen.add(path);
    for (const next of imports.get(path) ?? []) follow(next, [...way, path]);
  };
  for (const path of imports.keys()) follow(path, []);
  return [...cycles];
}

describe("imports point one way", () => {
  const sources = [...sourcesIn("shared"), ...sourcesIn("supabase/functions")];

  test("there is something to look at", () => {
    expect(sources.length).toBeGreaterThan(40);
    expect(sources.flatMap(({ text }) => importsOf(text)).length).toBeGreaterThan(100);
  });

  test("no file breaks the rules", () => {
    expect(sources.flatMap(faultsOf)).toEqual([]);
  });

  test("and in no cycle, nor do those of the command line, the local stack, the console and the benchmarks", () => {
    const others = ["cli", "local", "console/src", "bench"].map((folder) => sourcesIn(folder));
    for (const its of others) expect(its.length).toBeGreaterThan(40);
    expect(circlesIn([...sources, ...others.flat()])).toEqual([]);
  });

  test("a cycle would be found, also one through types alone", () => {
    const file = (name: string, other: string) => ({
      path: `shared/providers/${name}.ts`,
      text: `import type { X } from "./${other}.ts";`,
    });
    expect(circlesIn([file("a", "b"), file("b", "c"), file("c", "b"), file("d", "a")])).toEqual([
      "shared/providers/b.ts -> shared/providers/c.ts",
    ]);
  });

  test.each([
    [
      "an import upwards",
      "shared/contract/a.ts",
      'import { b } from "../endpoints/b.ts";',
      "contract imports from endpoints",
    ],
    [
      "an import sideways",
      "shared/endpoints/a.ts",
      'export * from "../gateway/b.ts";',
      "endpoints imports from gateway",
    ],
    [
      "one over several lines",
      "shared/http/a.ts",
      'import {\n  type B,\n  c,\n} from "../database/b.ts";',
      "http imports from database",
    ],
    ["a lost ending", "shared/http/a.ts", 'import { b } from "../contract/b";', "lacks .ts"],
    ["a way out", "shared/http/a.ts", 'import "../../local/b.ts";', "out of shared"],
    ["a dynamic import", "shared/http/a.ts", 'await import("../contract/b.ts");', "dynamically"],
    ["all of zod", "shared/http/a.ts", 'import { z } from "zod";', 'import * as z from "zod"'],
    ["all of zod's core", "shared/http/a.ts", "new z.core.$ZodAsyncError();", '* as core from "zod/v4/core"'],
    ["the runtime's own", "shared/gateway/a.ts", 'Deno.env.get("X");', "uses Deno"],
    [
      "another way to Google",
      "shared/providers/google/a.ts",
      "fetch(`${origin}/v1beta/${path}`);",
      "an address of Google's",
    ],
    ["a SQL function", "shared/gateway/a.ts", 'call("eve_reserve");', "SQL function"],
    [
      "the library",
      "shared/endpoints/a.ts",
      'import { x } from "@google/generative-ai";',
      "only shared/providers/google/provider.ts",
    ],
    ["a stray file", "shared/utils/a.ts", "", "in no room"],
  ])("%s would be found", (_, path, text, fault) => {
    expect(faultsOf({ path, text }).join()).toContain(fault);
  });
});
