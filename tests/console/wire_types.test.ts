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

/** What is wrong with the admin function's types, and with the console's; empty where nothing is. */
const faultsOfAdmin = () => run(copy, Deno.execPath(), "check", "supabase/functions/admin/index.ts");
const faultsOfConsole = () =>
  run(`${copy}/console`, Deno.execPath(), "run", "-A", "node_modules/typescript/bin/tsc", "--noEmit");

/** With one text of one file changed. */
async function changed<T>(path: string, from: string, to: string, look: () => Promise<T>): Promise<T> {
  const text = await Deno.readTextFile(`${copy}/${path}`);
  expect(text).toContain(from);
  await Deno.writeTextFile(`${copy}/${path}`, text.replace(from, to));
  try {
    return await look();
  } finally {
    await Deno.writeTextFile(`${copy}/${path}`, text);
  }
}

describe.skipIf(!installedConsole())(
  "what the admin function answers is what the console reads",
  () => {
    test("as they are, both are typed", async () => {
      expect([await faultsOfAdmin(), await faultsOfConsole()]).toEqual(["", ""]);
    });

    test("a field that the function names otherwise is a type error of its route", async () => {
      const faults = await changed(
        "shared/database/reading.ts",
        "  blocked_until: z.string().nullable(),",
        "  blocked_to: z.string().nullable(),",
        faultsOfAdmin,
      );
      expect(faults).toMatch(/'blocked_until' is missing/);
      expect(faults).toContain("reading_routes.ts");
    });

    test("a field that its types name otherwise is a type error of the page, and of the route", async () => {
      const [admin, page] = await changed(
        ANSWERS,
        "  wait_ms: number;",
        "  waited_ms: number;",
        async () => [await faultsOfAdmin(), await faultsOfConsole()],
      );
      expect(admin).toMatch(/'waited_ms' is missing/);
      expect(page).toMatch(/requests\.tsx.*'wait_ms' does not exist/);
    });

    test("a tenant's field that its types name otherwise, of the page that changes it, and of the route", async () => {
      const [admin, page] = await changed(
        ANSWERS,
        "  storage_limit_bytes: number | null;",
        "  limit_bytes: number | null;",
        async () => [await faultsOfAdmin(), await faultsOfConsole()],
      );
      expect(admin).toMatch(/'limit_bytes' is missing/);
      expect(admin).toContain("tenant_routes.ts");
      expect(page).toMatch(/tenants\.tsx.*'storage_limit_bytes' does not exist/);
    });

    test("a field of the stream's events that its types name otherwise, of the endpoint and of the playground", async () => {
      const [endpoint, page] = await changed(
        "shared/endpoints/native/stream_events.ts",
        "usage: { input_tokens: number;",
        "usage: { prompt_tokens: number;",
        async () => [
          await run(copy, Deno.execPath(), "check", "shared/endpoints/native/stream.ts"),
          await faultsOfConsole(),
        ],
      );
      expect(endpoint).toMatch(/'prompt_tokens' is missing/);
      expect(page).toMatch(/playground\.tsx.*'input_tokens' does not exist/);
    });

    test("a path that no route answers is a type error of the page", async () => {
      const faults = await changed(ANSWERS, '"GET /lanes"', '"GET /all-lanes"', faultsOfConsole);
      expect(faults).toMatch(/quota\.tsx.*"\/lanes"/);
    });
  },
);
