/** What a visitor downloads before the first page is there. */
import { beforeAll, describe, expect, test } from "vitest";
import { gzipSync } from "node:zlib";
import { buildConsole, serveConsole } from "../../local/console.ts";
import { installedConsole } from "./installed_console.ts";

const FIRST_PAGE_BYTES = 200_000;

describe.skipIf(!installedConsole() && Deno.env.get("CI") === undefined)("the console's bundle", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await buildConsole();
  });

  test(`the first page is below ${FIRST_PAGE_BYTES / 1000} KB, gzipped`, () => {
    const page = Deno.readTextFileSync(`${folder}/index.html`);
    // The page itself, and every script and style that it names: those it loads before anything is shown.
    const named = [...page.matchAll(/(?:src|href)="\.\/(assets\/[^"]+)"/g)].map((match) => match[1]!);
    // And the texts of one language, without which nothing is shown either.
    const texts = [...Deno.readDirSync(`${folder}/assets`)].find(({ name }) => /^ru-.*\.js$/.test(name))!;
    const files = [...named, `assets/${texts.name}`];
    expect(files.length).toBeGreaterThanOrEqual(2);
    const bytes = ["index.html", ...files].map((file) =>
      gzipSync(Deno.readFileSync(`${folder}/${file}`)).length
    );
    expect(bytes.reduce((sum, size) => sum + size, 0)).toBeLessThan(FIRST_PAGE_BYTES);
  });

  test("is sent compressed, and files whose names change with their content are asked for once", async () => {
    const serve = serveConsole(folder, {
      supabaseUrl: "http://127.0.0.1:1",
      publishableKey: "sb_publishable_x",
    });
    const script = [...Deno.readDirSync(`${folder}/assets`)].find(({ name }) =>
      /^index-.*\.js$/.test(name)
    )!.name;
    const get = (path: string) =>
      serve(new Request(`http://localhost/console/${path}`, { headers: { "accept-encoding": "gzip, br" } }));
    const answer = await get(`assets/${script}`);
    expect(answer.headers.get("content-encoding")).toBe("gzip");
    expect(answer.headers.get("cache-control")).toBe("public, max-age=31536000, immutable");
    const whole = Deno.readFileSync(`${folder}/assets/${script}`);
    expect((await answer.clone().bytes()).length).toBeLessThan(whole.length / 2);
    const read = new Response(answer.body!.pipeThrough(new DecompressionStream("gzip")));
    expect(await read.bytes()).toEqual(whole);
    for (const path of ["", "config.json"]) {
      expect((await get(path)).headers.get("cache-control"), path).toBe("no-cache");
    }
  });

  test("no file of it holds a key, nor the name of one that only servers know", () => {
    for (const entry of Deno.readDirSync(`${folder}/assets`)) {
      const content = Deno.readTextFileSync(`${folder}/assets/${entry.name}`);
      expect(content, entry.name).not.toMatch(/sb_secret_\w|ADMIN_SECRET_KEY|SERVICE_ROLE|demo-key-/);
    }
  });
});
