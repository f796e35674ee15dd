import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CHECKOUT } from "../../local/paths.ts";
import { installedConsole } from "./installed_console.ts";

/** What the admin function and the console are typed by, in a folder where it may be changed. */
const COPIED = [
  "deno.json",
  "package.json",
  "shared",
  "supabase/functions/admin",
  "console/package.json",
  "console/tsconfig.json",
  "console/vite.config.ts",
  "console/src",
];
const LINKED = ["node_modules", "console/node_modules"];

const ANSWERS = "shared/admin/answers.ts";
let copy: string;

beforeAll(async () => {
  copy = await Deno.makeTempDir({ prefix: "eve-wire-types-" });
  await Deno.mkdir(`${copy}/supabase/functions`, { recursive: true });
  await Deno.mkdir(`${copy}/console`);
  for (const path of COPIED) await run(copy, "cp", "-r", `${CHECKOUT}/${path}`, `${copy}/${path}`);
  for (const path of LINKED) await Deno.symlink(`${CHECKOUT}/${path}`, `${copy}/${path}`);
});

afterAll(async () => {
  if (copy !== undefined) await Deno.remove(copy, { recursive: true });
});

async function run(cwd: string, command: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args, cwd, env: { NO_COLOR: "1" } })
    .output();
  const printed = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  return success ? "" : printed || "it failed without a word";
}

/** What is wrong with the types of the functions that answer the console, and with its own; empty where nothing is. */
const faultsOfFunctions = () =>
  run(
    copy,
    Deno.execPath(),
    "check",
    "supabase/functions/admin/index.ts",
    "shared/endpoints/native/stream.ts",
    "shared/api/storage_routes.ts",
  );
const faultsOfConsole = () =>
  run(
    `${copy}/console`,
    Deno.execPath(),
    "run",
    "-A",
    "node_modules/typescript-compiler/bin/tsc",
    "--noEmit",
  );

interface Change {
  path: string;
  from: string;
  to: string;
}

/** With texts of files changed. */
async function changed<T>(changes: readonly Change[], probe: () => Promise<T>): Promise<T> {
  const texts = new Map<string, string>();
  try {
    for (const { path, from, to } of changes) {
      const text = await Deno.readTextFile(`${copy}/${path}`);
      expect(text).toContain(from);
      if (!texts.has(path)) texts.set(path, text);
      await Deno.writeTextFile(`${copy}/${path}`, text.replace(from, to));
    }
    return await probe();
  } finally {
    for (const [path, text] of texts) await Deno.writeTextFile(`${copy}/${path}`, text);
  }
}

describe.skipIf(!installedConsole())(
  "what the admin function answers is what the console reads",
  () => {
    test("as they are, both are typed", async () => {
      expect([await faultsOfFunctions(), await faultsOfConsole()]).toEqual(["", ""]);
    });

    describe("otherwise it is a type error", () => {
      let functions: string;
      let page: string;
      // All at once: each look takes seconds, and none of these hides another.
      beforeAll(async () => {
        const fields = [
          { path: ANSWERS, from: "  wait_ms: number;", to: "  waited_ms: number;" },
          {
            path: ANSWERS,
            from: "  storage_limit_bytes: number | null;",
            to: "  limit_bytes: number | null;",
          },
          {
            path: "shared/database/reading.ts",
            from: "  blocked_until: z.string().nullable(),",
            to: "  blocked_to: z.string().nullable(),",
          },
          {
            path: "shared/endpoints/native/stream_events.ts",
            from: "usage: { input_tokens: number;",
            to: "usage: { prompt_tokens: number;",
          },
          { path: "shared/api/answers.ts", from: "  used_bytes: number;", to: "  bytes_used: number;" },
        ];
        functions = await changed(fields, faultsOfFunctions);
        // Its route would have no types to be measured by.
        const path = { path: ANSWERS, from: '"GET /lanes"', to: '"GET /all-lanes"' };
        page = await changed([...fields, path], faultsOfConsole);
      });

      test("of its route, when the function names a field otherwise", () => {
        expect(functions).toMatch(/'blocked_until' is missing/);
        expect(functions).toContain("reading_routes.ts");
      });

      test("of the page and of the route, when its types name a field otherwise", () => {
        expect(functions).toMatch(/'waited_ms' is missing/);
        expect(page).toMatch(/requests\.tsx.*'wait_ms' does not exist/);
      });

      test("of the page that changes a tenant, and of the route, when its types name a field otherwise", () => {
        expect(functions).toMatch(/'limit_bytes' is missing/);
        expect(functions).toContain("tenant_routes.ts");
        expect(page).toMatch(/tenants\.tsx.*'storage_limit_bytes' does not exist/);
      });

      test("of the endpoint and of the playground, when types name a field of the stream's events otherwise", () => {
        expect(functions).toMatch(/'prompt_tokens' is missing/);
        expect(page).toMatch(/playground\.tsx.*'input_tokens' does not exist/);
      });

      test("of the page and of the function api, when types name a field of its answers otherwise", () => {
        expect(functions).toMatch(/'bytes_used' is missing/);
        expect(page).toMatch(/storage\.tsx.*'used_bytes' does not exist/);
      });

      test("of the page, when no route answers its path", () => {
        expect(page).toMatch(/quota\.tsx.*"\/lanes"/);
      });
    });
  },
);
