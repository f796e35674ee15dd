/** `npm run eve` as the owner uses it. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseSecretsFile } from "../../cli/deploy/secrets_file.ts";
import { eve } from "../../cli/eve.ts";
import { connect } from "../../cli/eve/connection.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { readSigningKeys } from "../../shared/tokens/signing_keys.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

let stack: TestStack;
beforeAll(async () => {
  stack = await startTestStack({ emulator: { latencyMs: 5 } });
});
afterAll(() => stack?.stop());

/** Runs a command line; gives the exit code, what was said and what was complained. */
async function run(...args: string[]) {
  const said: string[] = [];
  const complained: string[] = [];
  const code = await eve(args, {
    say: (text) => said.push(text),
    complain: (text) => complained.push(text),
    connect: () => connect(stack.url, stack.keys.secret),
  });
  return { code, said: said.join("\n"), complained: complained.join("\n") };
}

async function json(...args: string[]) {
  const { code, said } = await run(...args, "--json");
  expect(code, said).toBe(0);
  return JSON.parse(said);
}

const ask = (key: string) =>
  stack.invoke("llm-invoke", { model: "gemma-4-31b-it", prompt: "Hello" }, { headers: { apikey: key } });

test("a service is added, used, rotated, switched off and deleted", async () => {
  const { said, code } = await run("consumers", "add", "bot", "--kind", "service", "--rpm", "60");
  expect(code).toBe(0);
  const [secret] = /eve_service_[0-9a-f]{16}_[0-9a-f]{64}/.exec(said)!;
  expect((await ask(secret)).status).toBe(200);
  expect((await run("consumers", "list")).said).toContain("bot");
  const shown = await run("consumers", "show", "bot");
  expect(shown.said).toMatch(/requests a minute\s+60/);
  expect(shown.said).not.toContain(secret);

  const rotated = await json("consumers", "rotate", "bot", "--grace", "1h");
  expect(rotated.previous_secret_until).not.toBeNull();
  for (const key of [secret, rotated.secret]) expect((await ask(key)).status).toBe(200);

  await run("consumers", "disable", "bot");
  expect((await ask(secret)).status).toBe(403);
  await run("consumers", "enable", "bot");
  expect((await ask(secret)).status).toBe(200);

  const unsure = await run("consumers", "delete", "bot");
  expect([unsure.code, unsure.complained]).toEqual([2, expect.stringContaining("--yes")]);
  expect((await run("consumers", "delete", "bot", "--yes")).code).toBe(0);
  expect((await ask(secret)).status).toBe(401);
});

test("a token is issued and revoked, and stops at the next call", async () => {
  await json(
    "consumers",
    "add",
    "kaggle",
    "--kind",
    "notebook",
    "--models",
    "gemma-4-31b-it",
    "--class",
    "batch",
    "--ttl",
    "1h",
  );
  const token = await json("tokens", "issue", "kaggle", "--ttl", "5m", "--requests", "10");
  expect(token).toMatchObject({ expires_in: 300, scope: "model:gemma-4-31b-it class:batch requests:10" });
  expect((await ask(token.access_token)).status).toBe(200);
  const [row] = await json("tokens", "list", "--consumer", "kaggle");
  expect(row).toMatchObject({ state: "live", requests_used: 1, requests_budget: 10 });
  expect((await run("tokens", "list")).said).toContain("1 of 10");
  expect(await json("tokens", "revoke", row.id, "--reason", "test")).toEqual({ revoked: [row.id] });
  expect((await ask(token.access_token)).status).toBe(401);
  expect((await run("tokens", "list")).said).toBe("There is no token.");
  expect((await run("tokens", "list", "--all")).said).toContain("revoked");
});

test("a signing key is one that the functions take", async () => {
  const { said } = await run("tokens", "signing-key");
  // As the README says, the line goes into the file of secrets as it is.
  const secrets = parseSecretsFile(said.split("\n")[0]!, "secrets.env");
  const value = secrets.get("EVE_TOKEN_SIGNING_KEYS");
  expect(readSigningKeys(value)).toMatchObject([{ kid: expect.stringMatching(/^\d{8}T\d{6}$/) }]);
});

test("keys are listed, added, switched off and on", async () => {
  expect((await run("keys", "list")).said).toMatch(/demo-a +on +GOOGLE_API_KEY_DEMO_A +demo-one +10/);
  await json(
    "keys",
    "add",
    "extra",
    "--env",
    "GOOGLE_API_KEY_EXTRA",
    "--project",
    "demo-three",
    "--priority",
    "5",
  );
  const again = await run("keys", "add", "extra", "--env", "GOOGLE_API_KEY_EXTRA");
  expect([again.code, again.complained]).toEqual([1, "There is a key named extra already."]);
  const pasted = await run("keys", "add", "oops", "--env", "AIzaSyFakeFakeFakeFake");
  expect([pasted.code, pasted.complained]).toEqual([2, expect.not.stringContaining("AIza")]);
  expect(await json("keys", "disable", "extra")).toMatchObject([{ is_active: false }]);
  expect(await json("keys", "enable", "extra")).toMatchObject([{ is_active: true }]);
  await json("keys", "disable", "extra");
});

test("limits are listed and set, and the next reservation knows", async () => {
  expect((await run("limits", "list")).said).toMatch(/gemma-4-31b-it +30 +16,000 +14,400/);
  expect(await json("limits", "set", "gemma-4-31b-it", "--rpm", "99", "--tpm", "none")).toEqual({
    model: "gemma-4-31b-it",
    rpm: 99,
    tpm: null,
    rpd: 14_400,
  });
  const response = await ask(stack.keys.secret);
  expect(response.headers.get("x-ratelimit-limit-requests")).toBe("99");
  await response.body?.cancel();
  expect((await run("models", "list")).said).toMatch(/gemma-3-27b +\w+ +gemma-4-31b-it/);
});

test("a model is asked, and a refusal explained", async () => {
  expect(await json("invoke", "Say hello")).toMatchObject({
    model: "gemma-4-31b-it",
    text: expect.stringMatching(/./),
  });
  expect((await run("invoke", "Say", "hello", "--wait", "0")).said).toMatch(
    /gemma-4-31b-it by demo-.*tokens, waited 0 ms/,
  );
  const refused = await run("invoke", "--model", "gpt-9", "Hello");
  expect([refused.code, refused.said]).toEqual([1, expect.stringMatching(/^unknown_model: /)]);
});

describe("a command line that makes no sense ends with 2 and says what does", () => {
  test.each<[string[], RegExp]>([
    [["frobnicate"], /no command `frobnicate`/],
    [["consumers"], /consumers add, consumers list/],
    [["consumers", "add"], /NAME is missing: consumers add NAME/],
    [["consumers", "add", "x"], /--kind is missing/],
    [["consumers", "add", "x", "--kind", "robot"], /--kind must be service or notebook/],
    [["consumers", "add", "x", "--kind", "service", "--rpm", "many"], /--rpm must be a whole number/],
    [["consumers", "show", "x", "y"], /one word too many, y/],
    [["consumers", "list", "--colour"], /Unknown option '--colour'/],
    [["consumers", "rotate", "x", "--grace", "soon"], /--grace must be a duration/],
    [["tokens", "revoke"], /either the token's id or --consumer/],
    [["tokens", "revoke", "abc"], /A token's id looks like/],
    [["limits", "set", "gemma-4-31b-it"], /at least one of --rpm/],
    [["invoke"], /PROMPT is missing/],
  ])("%j", async (args, message) => {
    const { code, said, complained } = await run(...args);
    expect([code, said]).toEqual([2, ""]);
    expect(complained).toMatch(message);
  });
});

test("what cannot be done ends with 1, for programs too", async () => {
  for (
    const args of [
      ["consumers", "show", "nobody"],
      ["consumers", "disable", "nobody"],
      ["keys", "enable", "nobody"],
      ["limits", "set", "nothing", "--rpm", "1"],
      ["tokens", "issue", "nobody"],
    ]
  ) {
    expect(await run(...args)).toMatchObject({
      code: 1,
      said: "",
      complained: expect.stringMatching(/nobody|nothing/),
    });
  }
  const { code, said } = await run("consumers", "show", "nobody", "--json");
  expect([code, JSON.parse(said)]).toEqual([1, { error: { message: expect.stringContaining("nobody") } }]);
});

test("every command explains itself with examples", async () => {
  const { said } = await run("--help");
  const names = [...said.matchAll(/^ {2}([a-z]+(?: [a-z-]+)?) (?:[A-Z[]| )/gm)].map((match) => match[1]!);
  expect(names.length).toBeGreaterThan(15);
  for (const name of names.filter((one) => !one.startsWith("npm"))) {
    expect((await run(...name.split(" "), "--help")).said, name).toMatch(/For example:\n {2}npm run eve -- /);
  }
});

test("as a program: without colour in a pipe, finding the stack by its folder", async () => {
  await Deno.writeTextFile(
    `${stack.dataDir}/env`,
    `SUPABASE_URL=${stack.url}\nSUPABASE_SECRET_KEY=${stack.keys.secret}\n`,
  );
  const program = (env: Record<string, string>) =>
    new Deno.Command("node", {
      args: ["local/run.mjs", "cli/eve.ts", "keys", "list"],
      cwd: CHECKOUT,
      env: { EVE_DATA_DIR: stack.dataDir, SUPABASE_URL: "", SUPABASE_SECRET_KEY: "", ...env },
    }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  const local = await program({});
  expect(local.code, text(local.stderr)).toBe(0);
  expect(text(local.stdout)).toContain("demo-a");
  expect(text(local.stdout)).not.toContain("\x1b");
  const half = await program({ SUPABASE_URL: stack.url });
  expect([half.code, text(half.stderr).trim()]).toEqual([
    1,
    "SUPABASE_SECRET_KEY is not set: set both, or neither for the local stack.",
  ]);
  const wrong = await program({ SUPABASE_URL: stack.url, SUPABASE_SECRET_KEY: "sb_secret_wrong" });
  expect(wrong.code).toBe(1);
  expect(text(wrong.stderr)).not.toContain("sb_secret_wrong");
});
