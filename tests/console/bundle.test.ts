/** What a visitor downloads before the first page is there. */
import { beforeAll, describe, expect, test } from "vitest";
import { gzipSync } from "node:zlib";
import { buildConsole } from "../../local/console.ts";
import { installedConsole } from "./installed_console.ts";

const FIRST_PAGE_BYTES = 350_000;

describe.skipIf(!installedConsole() && Deno.env.get("CI") === undefined)("the console's bundle", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await buildConsole();
  });

  test(`the first page is below ${FIRST_PAGE_BYTES / 1000} KB, gzipped`, () => {
    const page = Deno.readTextFileSync(`${folder}/index.html`);
    // The page itself, and every script and style that it names: those it loads before anything is shown.
    const files = [...page.matchAll(/(?:src|href)="\.\/(assets\/[^"]+)"/g)].map((match) => match[1]!);
    expect(files.length).toBeGreaterThanOrEqual(2);
    const bytes = ["index.html", ...files].map((file) =>
      gzipSync(Deno.readFileSync(`${folder}/${file}`)).length
    );
    expect(bytes.reduce((sum, size) => sum + size, 0)).toBeLessThan(FIRST_PAGE_BYTES);
  });

  test("no file of it holds a key, nor the name of one that only servers know", () => {
    for (const entry of Deno.readDirSync(`${folder}/assets`)) {
      const content = Deno.readTextFileSync(`${folder}/assets/${entry.name}`);
      expect(content, entry.name).not.toMatch(/sb_secret_\w|ADMIN_SECRET_KEY|SERVICE_ROLE|demo-key-/);
    }
  });
});
