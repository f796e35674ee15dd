/** Keys at the command line, where no project is needed: why one is off, and where its secret is put. */
import { describe, expect, test } from "vitest";
import { eve, type Place } from "../../../cli/eve.ts";
import type { Connection } from "../../../cli/eve/connection.ts";
import { troubleOf } from "../../../cli/eve/key_advice.ts";
import { keepSecret } from "../../../local/stored_secrets.ts";
import { overriddenSecrets, settingsFromEnvironment } from "../../../local/settings.ts";
import { SEEDED_OFF } from "../../../local/seeded_notes.ts";
import type { KeyState } from "../../../shared/database/reading.ts";

const LOCAL = "http://127.0.0.1:54321";
const REF = "abcdefghijklmnopqrst";
const HOSTED = `https://${REF}.supabase.co`;
const SECRET = "AIzaSyD-not-a-real-key-0123456789";

const KEY = {
  id: "11111111-1111-4111-8111-111111111111",
  alias: "main",
  env_var_name: "GOOGLE_API_KEY_MAIN",
  state: "on",
  is_active: true,
  blocked_until: null,
  blocked_reason: null,
  notes: null,
} as KeyState;
const REJECTED = { state: "off", blocked_until: "infinity", is_active: false } as const;

describe("why a key is not used, and what to do", () => {
  test.each<[string, Partial<KeyState>, RegExp, RegExp]>([
    [
      "its secret was rejected",
      { ...REJECTED, blocked_reason: "key_invalid" },
      /mistyped.*\(key_invalid\)/,
      /keys set main.*used again by itself/,
    ],
    [
      "its project lacks the API",
      { ...REJECTED, blocked_reason: "service_disabled" },
      /API/,
      /keys test main/,
    ],
    [
      "its credits are spent",
      { ...REJECTED, blocked_reason: "credits_depleted" },
      /spent/,
      /keys enable main/,
    ],
    ["a person switched it off", { state: "off" }, /by hand/, /keys enable main/],
    ["the local stack lacks it", { state: "off", notes: SEEDED_OFF }, /runs without/, /GOOGLE_API_KEY_MAIN=/],
    [
      "its secret is not set",
      { state: "blocked", blocked_until: "2026-11-21T10:00:00Z", blocked_reason: "secret_missing" },
      /no secret is named GOOGLE_API_KEY_MAIN/,
      /keys set main/,
    ],
    [
      "it is paused",
      { state: "blocked", blocked_until: "2026-11-21T10:00:00Z", blocked_reason: "paused" },
      /paused/,
      /^nothing: it is used again at/,
    ],
    ["its row names no secret", { state: "no_secret_name", env_var_name: null }, /names no/, /env_var_name/],
    [
      "its stored secret cannot be read",
      {
        state: "blocked",
        env_var_name: "stored:1",
        blocked_until: "2026-11-21T10:00:00Z",
        blocked_reason: "secret_missing",
      },
      /cannot be decrypted with this ADMIN_SECRET_KEY/,
      /keys set main; or in the console/,
    ],
    ["its stage has none", { state: "off", env_var_name: "stage:POEM" }, /stage/, /console/],
  ])("%s", (_, changes, why, todo) => {
    for (const url of [LOCAL, HOSTED]) {
      const trouble = troubleOf({ ...KEY, ...changes }, url)!;
      expect(trouble.why).toMatch(why);
      expect(trouble.todo).toMatch(todo);
      if (url === LOCAL) expect(JSON.stringify(trouble)).not.toMatch(/supabase|dashboard|Edge/i);
    }
  });

  test("one that is used has none", () => {
    expect(troubleOf(KEY, LOCAL)).toBeNull();
  });
});

interface Options {
  key?: Partial<KeyState>;
  url?: string;
  folder?: string;
  typed?: string;
  supabase?: Place["supabase"];
}

async function run(options: Options, ...args: string[]) {
  const lines: string[] = [];
  const connection = {
    url: options.url ?? LOCAL,
    folder: options.folder,
    reading: { keys: () => Promise.resolve([{ ...KEY, ...options.key }]) },
  } as Partial<Connection> as Connection;
  const code = await eve(args, {
    say: (text) => lines.push(text),
    complain: (text) => lines.push(text),
    connect: () => connection,
    secret: () => Promise.resolve(options.typed ?? SECRET),
    variable: () => undefined,
    ...(options.supabase && { supabase: options.supabase }),
  });
  return { code, text: lines.join("\n") };
}

describe("keys set", () => {
  test("keeps it in the local stack's folder, for its owner alone, and says to start the stack again", async () => {
    const folder = await Deno.makeTempDir();
    try {
      const { code, text } = await run({ folder }, "keys", "set", "main");
      expect(code).toBe(0);
      expect(text).toMatch(/next start.*npm start/);
      expect(text).not.toContain(SECRET);
      const file = `${folder}/key_secrets.json`;
      expect(JSON.parse(await Deno.readTextFile(file))).toEqual({ GOOGLE_API_KEY_MAIN: SECRET });
      expect((await Deno.stat(file)).mode! & 0o777).toBe(0o600);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });

  test("hands it to the Supabase CLI in a file that is gone afterwards, never in an argument", async () => {
    let file = "";
    let content = "";
    let mode = 0;
    const { code, text } = await run(
      {
        url: HOSTED,
        supabase: () => async (args) => {
          expect(args.join(" ")).not.toContain(SECRET);
          expect(args).toEqual([
            "secrets",
            "set",
            expect.stringMatching(/^--env-file=/),
            `--remote=${REF}`,
            "--yes",
          ]);
          file = args[2]!.slice("--env-file=".length);
          content = await Deno.readTextFile(file);
          mode = (await Deno.stat(file)).mode! & 0o777;
          return { success: true, stdout: "", stderr: "" };
        },
      },
      "keys",
      "set",
      "main",
    );
    expect([code, content, mode]).toEqual([0, `GOOGLE_API_KEY_MAIN='${SECRET}'\n`, 0o600]);
    await expect(Deno.stat(file)).rejects.toThrow(Deno.errors.NotFound);
    expect(text).not.toContain(SECRET);
  });

  test.each<[string, Place["supabase"]]>([
    [
      "is not logged in",
      () => () => Promise.resolve({ success: false, stdout: "", stderr: "Access token not provided" }),
    ],
    ["is not installed", () => () => Promise.reject(new Deno.errors.NotFound("supabase"))],
  ])("says what to run when the Supabase CLI %s", async (_, supabase) => {
    const { code, text } = await run({ url: HOSTED, supabase }, "keys", "set", "main");
    expect(code).toBe(1);
    expect(text).toMatch(
      new RegExp(`read -rs KEY .*supabase secrets set --env-file secret.env --remote=${REF}`),
    );
    expect(text).not.toContain(SECRET);
  });

  test.each<[string, Options, number, RegExp]>([
    ["nothing is typed", { typed: "", folder: "/nowhere" }, 2, /nothing was changed/],
    ["what is typed is no key", { typed: "two words", folder: "/nowhere" }, 2, /not a key/],
    ["the row names the system's own variable", { key: { env_var_name: "SUPABASE_URL" } }, 1, /reserved/],
    ["it is a stage's key", { key: { env_var_name: "stage:POEM" } }, 1, /console/],
    ["the stack's folder is not known", {}, 1, /Unset SUPABASE_URL/],
    ["the project's ref is not known", { url: "https://llm.example.org" }, 1, /supabase secrets set/],
  ])("changes nothing where %s", async (_, options, exitCode, words) => {
    const { code, text } = await run(options, "keys", "set", "main");
    expect(code).toBe(exitCode);
    expect(text).toMatch(words);
  });

  test("the local stack starts with what it stored, except what its environment says", async () => {
    const folder = await Deno.makeTempDir();
    // A name that the functions are given only because it was kept.
    const [kept, both] = ["KEPT_FOR_A_TEST", "GOOGLE_API_KEY_FOR_A_TEST"];
    const before = Deno.env.get("EVE_DATA_DIR");
    try {
      Deno.env.set("EVE_DATA_DIR", folder);
      Deno.env.set(both, "from the environment");
      for (const name of [kept, both]) keepSecret(folder, name, SECRET);
      expect(settingsFromEnvironment().env).toMatchObject({ [kept]: SECRET, [both]: "from the environment" });
      expect(overriddenSecrets()).toEqual([both]);
      // Where the graph's copy goes is for the functions, too.
      Deno.env.set("NEO4J_URI", "http://127.0.0.1:7474");
      expect(settingsFromEnvironment().env).toMatchObject({ NEO4J_URI: "http://127.0.0.1:7474" });
      Deno.env.delete("NEO4J_URI");
    } finally {
      Deno.env.delete(both);
      if (before === undefined) Deno.env.delete("EVE_DATA_DIR");
      else Deno.env.set("EVE_DATA_DIR", before);
      await Deno.remove(folder, { recursive: true });
    }
  });

  test("takes no secret as an argument", async () => {
    const { code } = await run({ folder: "/nowhere" }, "keys", "set", "main", SECRET);
    expect(code).toBe(2);
  });
});
