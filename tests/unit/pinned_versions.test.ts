import { describe, expect, test } from "vitest";

const read = (name: string) => JSON.parse(Deno.readTextFileSync(new URL(`../../${name}`, import.meta.url)));
const { imports } = read("deno.json") as { imports: Record<string, string> };
const { dependencies, devDependencies } = read("package.json") as Record<string, Record<string, string>>;
const packages: Record<string, string> = { ...dependencies, ...devDependencies };

/** `npm:@supabase/server@1.4.1/core` -> [@supabase/server, 1.4.1] */
const npm = /^npm:\/?((?:@[^/@]+\/)?[^/@]+)@([^/]+)/;

describe("deno.json and package.json name the same versions", () => {
  test.each(Object.entries(imports))("%s", (specifier, target) => {
    const [, name = "", version] = npm.exec(target) ?? [];
    expect(specifier.startsWith(name)).toBe(true);
    expect(packages[name]).toBe(version);
  });

  const fromRegistry = Object.entries(packages).filter(([, version]) => !version.startsWith("file:"));
  test.each(fromRegistry)("%s is pinned exactly", (_, version) => {
    expect(version).toMatch(/^\d+\.\d+\.\d+(-[\w.]+)?$/);
  });
});
