/** `npm run eve` as the owner uses it. */
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseSecretsFile } from "../../cli/deploy/secrets_file.ts";
import { eve } from "../../cli/eve.ts";
import type { CommandDependencies } from "../../cli/eve/command.ts";
import { connect, connectFromEnvironment } from "../../cli/eve/connection.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { readSigningKeys } from "../../shared/tokens/signing_keys.ts";
import { until } from "../harness/patience.ts";
import { hasProgram } from "../harness/programs.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

let stack: TestStack;
let sql: postgres.Sql;
beforeAll(async () => {
  stack = await startTestStack({ emulator: { latencyMs: 5 } });
  sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
});
afterAll(async () => {
  await sql?.end();
  await stack?.stop();
});

/** Runs a command line; gives the exit code, what was said and what was complained. */
/** Python has what it takes to make a terminal. CI has Python. */
const hasPython = Deno.env.has("CI") || hasProgram("python3");

const run = (...args: string[]) => runIn({}, ...args);

/** The same with some of the dependencies replaced. */
async function runIn(around: Partial<CommandDependencies>, ...args: string[]) {
  const said: string[] = [];
  const complained: string[] = [];
  const code = await eve(args, {
    say: (text) => said.push(text),
    complain: (text) => complained.push(text),
    connect: () => connect(stack.url, stack.keys.secret),
    ...around,
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
  // Unknown, or known for a moment still to the function and refused by the reservation.
  expect([401, 403]).toContain((await ask(secret)).status);
});

test("a consumer is given a scope and a tenant, and may store files for it alone", async () => {
  const { secret } = await json("consumers", "add", "keeper", "--kind", "service");
  const store = async (tenant: string) => {
    const response = await fetch(`${stack.url}/functions/v1/api/v1/storage/usage/${tenant}`, {
      headers: { apikey: secret },
    });
    await response.body?.cancel();
    return response.status;
  };
  expect(await json("consumers", "access", "keeper")).toEqual({
    name: "keeper",
    scopes: ["llm"],
    tenant_id: "default",
  });
  expect(await store("default")).toBe(403);
  expect(await json("tenants", "add", "acme", "--name", "Acme", "--storage-limit-gb", "0.5")).toMatchObject({
    id: "acme",
    name: "Acme",
    storage_limit_bytes: 500_000_000,
    is_default: false,
  });
  // What is left out stays.
  expect(await json("tenants", "set", "acme", "--storage-limit-gb", "none")).toMatchObject({
    name: "Acme",
    storage_limit_bytes: null,
  });
  await json("consumers", "access", "keeper", "--scopes", "llm,media", "--tenant", "acme");
  expect([await store("acme"), await store("default")]).toEqual([200, 403]);
  const user = "6f1c2f5e-2f0a-4c53-9a55-0d3f2f1f7a11";
  const listed = async () => (await json("tenants", "list")).find(({ id }: { id: string }) => id === "acme");
  await json("tenants", "add-member", "acme", user);
  expect(await listed()).toMatchObject({ members: 1, consumers: 1 });
  await json("tenants", "remove-member", "acme", user);
  expect(await listed()).toMatchObject({ members: 0 });
  expect((await run("consumers", "access", "keeper", "--scopes", "llm,all")).complained).toMatch(/not all/);
  expect(await run("tenants", "add-member", "nobody", user)).toMatchObject({ code: 1 });
  await json("consumers", "delete", "keeper", "--yes");
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

test("a consumer uses what its scopes open, for its tenant, until they are taken", async () => {
  await json("tenants", "add", "library", "--name", "The library", "--storage-limit-gb", "0.5");
  const added = await json(
    "consumers",
    "add",
    "archive",
    "--kind",
    "service",
    "--scopes",
    "media, llm",
    "--tenant",
    "library",
  );
  expect(added).toMatchObject({ scopes: ["llm", "media"], tenant_id: "library" });
  const store = async (key: string) => {
    const response = await fetch(`${stack.url}/functions/v1/api/v1/media`, {
      method: "POST",
      headers: { apikey: key, "content-type": "application/octet-stream" },
      body: "a plan",
    });
    return { status: response.status, body: await response.json() };
  };
  expect(await store(added.secret)).toMatchObject({ status: 201, body: { tenant_id: "library" } });

  expect((await run("consumers", "list")).said).toMatch(/archive +service +on +llm, media +library +all/);
  const shown = (await run("consumers", "show", "archive")).said;
  expect(shown).toMatch(/scopes +llm, media\n/);
  expect(shown).toMatch(/tenant +library\n/);
  expect((await run("tenants", "list")).said).toMatch(/library +The library +500 MB +1 +0/);

  expect((await run("consumers", "access", "archive", "--scopes", "chats,llm")).said).toMatch(
    /archive\n.*chats, llm\n.*library$/,
  );
  expect(await store(added.secret)).toMatchObject({
    status: 403,
    body: { error: { code: "credential_insufficient" } },
  });
  expect((await ask(added.secret)).status).toBe(200);
  expect(await json("consumers", "access", "archive", "--tenant", "default")).toMatchObject({
    scopes: ["chats", "llm"],
    tenant_id: "default",
  });

  const wrong = (...args: string[]) =>
    run("consumers", ...args).then(({ code, complained }) => [code, complained]);
  expect(await wrong("access", "archive", "--tenant", "nobody")).toEqual([1, "There is no tenant nobody."]);
  expect(await wrong("access", "nobody", "--scopes", "llm")).toEqual([
    1,
    "There is no consumer named nobody.",
  ]);
  expect(await wrong("add", "half", "--kind", "service", "--tenant", "nobody")).toEqual([
    1,
    "There is no tenant nobody.",
  ]);
  expect((await run("consumers", "list")).said).not.toContain("half");
});

test("a token has of its consumer's scopes what is asked for, and no other", async () => {
  await json("consumers", "add", "lab", "--kind", "notebook", "--scopes", "llm,media");
  expect((await json("tokens", "issue", "lab")).scope).toBe("llm media class:interactive");
  const token = await json("tokens", "issue", "lab", "--scopes", "media");
  expect(token.scope).toBe("media class:interactive");
  // Issued within the same second, they are in no order.
  const listed: { scopes: string[] }[] = await json("tokens", "list", "--consumer", "lab");
  expect(listed.map(({ scopes }) => scopes.join()).sort()).toEqual(["llm,media", "media"]);
  expect((await run("tokens", "list", "--consumer", "lab")).said).toMatch(/lab +live +media +all/);
  const refused = await run("tokens", "issue", "lab", "--scopes", "chats");
  expect([refused.code, refused.complained]).toEqual([
    1,
    "No token was issued: a scope is not among those of this consumer.",
  ]);
});

test("tenants are changed, and their members named", async () => {
  await json("tenants", "add", "team");
  expect(await run("tenants", "add", "team")).toMatchObject({
    code: 1,
    complained: "There is a tenant team already.",
  });
  expect(await json("tenants", "set", "team", "--storage-limit-gb", "2", "--name", "Team")).toMatchObject({
    name: "Team",
    storage_limit_bytes: 2_000_000_000,
  });
  expect(await json("tenants", "set", "team", "--storage-limit-gb", "none")).toMatchObject({
    name: "Team",
    storage_limit_bytes: null,
  });
  expect(await json("tenants", "set", "team", "--default")).toMatchObject({ is_default: true });
  expect(await json("tenants", "set", "default", "--default")).toMatchObject({ is_default: true });
  expect((await json("tenants", "list")).filter((row: { is_default: boolean }) => row.is_default))
    .toMatchObject([
      { id: "default" },
    ]);

  const ann = "a0000000-0000-4000-8000-000000000001";
  expect(await json("tenants", "add-member", "team", ann)).toEqual({
    tenant_id: "team",
    user_id: ann,
    is_member: true,
    changed: true,
  });
  expect((await run("tenants", "add-member", "team", ann)).said).toBe(`${ann} is a member of team already.`);
  expect(await json("tenants", "show", "team")).toMatchObject({ id: "team", members: [{ user_id: ann }] });
  expect((await run("tenants", "show", "team")).said).toContain(ann);
  expect((await run("tenants", "remove-member", "team", ann)).said).toBe(`${ann} is now no member of team.`);
  expect((await run("tenants", "show", "team")).said).toContain("tenants add-member team USER_ID");
  for (const args of [["show"], ["set", "--name", "x"], ["add-member", ann]]) {
    const [verb = "", ...rest] = args;
    expect(await run("tenants", verb, "nobody", ...rest)).toMatchObject({
      code: 1,
      complained: expect.stringMatching(/^There is no tenant nobody\./),
    });
  }
});

test("a signing key is one that the functions take", async () => {
  const { said } = await run("tokens", "signing-key");
  // As docs/deploy.md says, the line goes into the file of secrets as it is.
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
  const { lanes, ...key } = (await json("keys", "list")).find((one: { alias: string }) =>
    one.alias === "demo-a"
  );
  expect(key).toMatchObject({ state: "on", quota_key: "demo-one", today: { requests: expect.any(Number) } });
  expect(lanes).toContainEqual(expect.objectContaining({ model: "gemma-4-31b-it", state: "open" }));
});

test("a key that is off says why and what to do; one that is deleted leaves its history", async () => {
  await json("keys", "add", "typo", "--env", "GOOGLE_API_KEY_TYPO");
  const off = () => run("keys", "list");
  await json("keys", "disable", "typo");
  expect((await off()).said).toMatch(/typo is not used: it was switched off by hand\.\n.*keys enable typo/);
  await sql`
    update public.google_ai_api_keys set blocked_until = 'infinity', blocked_reason = 'key_invalid'
    where key_alias = 'typo'`;
  const { said } = await off();
  expect(said).toMatch(/typo +off: key_invalid/);
  expect(said).toMatch(/typo is not used: .*mistyped.*\n.*keys set typo/);
  expect((await run("keys", "show", "typo")).said).toMatch(/what to do +.*keys set typo/);
  await json("keys", "disable", "typo");
  expect((await off()).said).toContain("typo is not used: it was switched off by hand");

  const [{ id }] = await sql`select id from public.google_ai_api_keys where key_alias = 'typo'` as [
    { id: string },
  ];
  const asked = await run("keys", "delete", "typo");
  expect([asked.code, asked.complained]).toEqual([2, expect.stringMatching(/audit .* keep .*--yes/)]);
  expect(await json("keys", "delete", "typo", "--yes")).toMatchObject({ removed: "typo", id });
  expect((await off()).said).not.toContain("typo");
  expect((await run("keys", "delete", "typo", "--yes")).code).toBe(1);
});

test("a key itself is added and replaced, and never shown; one that Google rejects is not", async () => {
  const typing = (typed: string, ...args: string[]) =>
    runIn({ secret: () => Promise.resolve(typed) }, ...args);
  const wrong = await typing("AIza-no-such-key-0123", "keys", "add", "typed", "--secret");
  expect(wrong).toMatchObject({ code: 1, complained: expect.stringMatching(/Google rejects it/) });
  expect((await run("keys", "add", "typed")).code).toBe(2);
  expect((await typing("demo-key-c", "keys", "add", "typed", "--secret", "--env", "GOOGLE_API_KEY_1")).code)
    .toBe(2);

  const added = await typing("demo-key-c", "keys", "add", "typed", "--secret", "--priority", "7");
  expect(added).toMatchObject({ code: 0, said: expect.stringContaining("encrypted") });
  expect(await json("keys", "show", "typed")).toMatchObject({
    priority: 7,
    state: "on",
    env_var_name: expect.stringMatching(/^stored:/),
  });
  expect((await run("keys", "list")).said).toMatch(/typed +on +in the database/);
  expect((await run("keys", "test", "typed")).said).toMatch(/typed +works/);

  await sql`
    update public.google_ai_api_keys set is_active = false, blocked_until = 'infinity', blocked_reason = 'key_leaked'
    where key_alias = 'typed'`;
  expect((await run("keys", "list")).said).toMatch(
    /typed is not used: .*\n.*keys set typed; or in the console/,
  );
  expect((await typing("AIza-no-such-key-0123", "keys", "set", "typed")).code).toBe(1);
  expect(await typing("demo-key-a", "keys", "set", "typed")).toMatchObject({ code: 0 });
  expect(await json("keys", "show", "typed")).toMatchObject({ state: "on", blocked_reason: null });
  expect((await run("keys", "delete", "typed", "--yes")).said).toContain("Its secret was removed with it.");
  expect((await sql`select from eve.stored_keys`).length).toBe(0);
});

test("limits are listed and set, and the next reservation knows", async () => {
  expect((await run("limits", "list")).said).toMatch(/gemma-4-31b-it +30 +16,000 +14,400/);
  expect(await json("limits", "set", "gemma-4-31b-it", "--rpm", "99", "--tpm", "none")).toMatchObject({
    model: "gemma-4-31b-it",
    quota_project: null,
    rpm: 99,
    tpm: null,
    rpd: 14_400,
  });
  const response = await ask(stack.keys.secret);
  expect(response.headers.get("x-ratelimit-limit-requests")).toBe("99");
  await response.body?.cancel();
  const models = (await run("models", "list")).said;
  expect(models).toMatch(/gemma-3-27b +\w+ +gemma-4-31b-it/);
  expect(models).toMatch(/gemini-embedding-001 +on +embeddings$/m);
});

test("a model is switched off and on, and gets a successor", async () => {
  const model = "gemini-3.5-flash-lite";
  expect((await run("models", "set", model, "--off")).said).toBe(`${model} is off.`);
  expect((await run("invoke", "--model", model, "Hello")).said).toMatch(/^unknown_model/);
  await run("models", "set", model, "--on", "--replaced-by", "gemma-4-31b-it");
  expect((await run("models", "set", model, "--off")).said).toBe(
    `${model} is off, and gemma-4-31b-it serves in its place all the same, until you say --replaced-by none.`,
  );
  expect(await json("invoke", "--model", model, "Hello")).toMatchObject({ model: "gemma-4-31b-it" });
  expect((await run("models", "set", "gemma-4-31b-it", "--off")).said).toBe(
    `gemma-4-31b-it is off, and so are ${model}, gemma-3-27b, gemma-3-27b-it, for which it served.`,
  );
  expect((await run("models", "set", model, "--on")).said).toMatch(
    /is on, and gemma-4-31b-it, which would serve in its place, is off: asked for, it is an unknown model/,
  );
  expect((await run("invoke", "--model", model, "Hello")).said).toMatch(/^unknown_model/);
  await run("models", "set", "gemma-4-31b-it", "--on");
  expect(await json("invoke", "--model", model, "Hello")).toMatchObject({ model: "gemma-4-31b-it" });
  expect(await json("models", "set", model, "--replaced-by", "none")).toMatchObject({
    is_active: true,
    replaced_by: null,
  });
  const wrong = await run("models", "set", model, "--replaced-by", "gemni");
  expect([wrong.code, wrong.complained]).toEqual([1, "There is no model named gemni. See `models list`."]);
  expect((await run("models", "set", model)).code).toBe(2);
});

test("a project is found by its profile", async () => {
  const file = `${stack.dataDir}/profiles.json`;
  const around: Partial<CommandDependencies> = {
    variable: (name) => name === "EVE_PROFILES" ? file : undefined,
  };
  const secret = `${stack.dataDir}/secret`;
  await Deno.writeTextFile(secret, stack.keys.secret, { mode: 0o600 });
  await runIn(around, "profiles", "add", "mine", "--url", stack.url, "--key-file", secret);
  expect((await runIn(around, "profiles", "list")).said).toContain(secret);
  expect(await Deno.readTextFile(file)).not.toContain(stack.keys.secret);
  Deno.env.set("EVE_PROFILES", file);
  const by = (...args: string[]) =>
    eve(args, { say: () => {}, complain: () => {}, connect: connectFromEnvironment });
  try {
    expect(await by("keys", "list", "--profile", "mine")).toBe(0);
    expect(await by("keys", "list", "--profile", "yours")).toBe(3);
  } finally {
    Deno.env.delete("EVE_PROFILES");
  }
  await runIn(around, "profiles", "remove", "mine");
  expect((await runIn(around, "profiles", "remove", "mine")).code).toBe(1);
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

test("how the classes share a model's minute and day is set, in per cent, and the next reservation knows", async () => {
  const shares = {
    batch_floor: 0.1,
    interactive_floor: 0,
    interactive_reserve: 0,
    interactive_reserve_day: 0.1,
  };
  const set = (...options: string[]) => json("limits", "set", "gemma-4-26b-a4b-it", ...options);
  expect(await set("--batch-floor", "20", "--interactive-reserve-day", "33.3%", "--interactive-floor", "2"))
    .toMatchObject({
      shares: { ...shares, batch_floor: 0.2, interactive_reserve_day: 0.333, interactive_floor: 2 },
    });
  expect((await json("limits", "list")).models).toContainEqual(
    expect.objectContaining({
      model: "gemma-4-26b-a4b-it",
      shares: expect.objectContaining({ batch_floor: 0.2 }),
    }),
  );
  expect((await run("limits", "set", "gemma-4-26b-a4b-it", "--batch-floor", "10")).said).toContain(
    "leave batch that waits 10 %",
  );
  expect((await run("limits", "set", "gemma-4-26b-a4b-it", "--batch-floor", "95")).complained).toMatch(
    /0 to 90/,
  );
  expect(
    (await run("limits", "set", "gemini-3.5-flash", "--quota-project", "demo-two", "--batch-floor", "5"))
      .complained,
  )
    .toMatch(/^Shares are of a model/);
  expect(await set("--interactive-reserve-day", "10", "--interactive-floor", "0")).toMatchObject({ shares });
});

test("limits of a quota project are its own until they are cleared", async () => {
  await json(
    "limits",
    "set",
    "gemini-3.5-flash",
    "--quota-project",
    "demo-two",
    "--rpm",
    "1000",
    "--notes",
    "paid",
  );
  expect((await run("limits", "list")).said).toMatch(/demo-two +gemini-3.5-flash +1,000 +250,000 +20 +paid/);
  const shown = await run("keys", "show", "demo-c");
  expect(shown.said).toMatch(/gemini-3.5-flash \* +open +1,000 of 1,000/);
  const unknown = await run("limits", "set", "gemini-3.5-flash", "--quota-project", "demo-tow", "--rpm", "1");
  expect([unknown.code, unknown.complained]).toEqual([
    1,
    expect.stringMatching(/demo-tow; there are .*demo-two/),
  ]);
  expect(await json("limits", "clear", "demo-two")).toEqual({
    quota_project: "demo-two",
    cleared: ["gemini-3.5-flash"],
  });
  expect((await run("limits", "clear", "demo-two")).code).toBe(1);
});

test("limits are imported all together or not at all, after they were shown", async () => {
  const table = "Model\tRPM\tTPM\tRPD\nGemini 2.5 Flash\t10\t250,000\t250\nVeo 9\t1\t-\t1\n";
  const reading = (text: string): Partial<CommandDependencies> => ({ read: () => Promise.resolve(text) });
  const shown = await runIn(reading(table), "limits", "import", "-");
  expect(shown.code).toBe(0);
  expect(shown.said).toMatch(/gemini-2.5-flash +5 → 10 +250,000 +20 → 250/);
  expect(shown.said).toMatch(/passed over: Veo 9 \(line 3\)[^]*Nothing was changed yet/);
  expect((await json("limits", "list")).models).toContainEqual(
    expect.objectContaining({ model: "gemini-2.5-flash", rpm: 5, rpd: 20 }),
  );

  const bad = await runIn(reading(`${table}Gemma 4 26B A4B\tmany\t1\t1\n`), "limits", "import", "-", "--yes");
  expect([bad.code, bad.said]).toEqual([
    1,
    expect.stringMatching(/Line 4: RPM of Gemma 4 26B A4B: "many"[^]*Nothing was changed/),
  ]);
  expect((await json("limits", "list")).models).toContainEqual(
    expect.objectContaining({ model: "gemini-2.5-flash", rpm: 5 }),
  );

  const done = await runIn(reading(table), "limits", "import", "-", "--yes", "--add-models", "--json");
  expect(JSON.parse(done.said)).toMatchObject({ applied: true, problems: [] });
  const { models } = await json("limits", "list");
  expect(models).toContainEqual(
    expect.objectContaining({ model: "gemini-2.5-flash", rpm: 10, tpm: 250_000, rpd: 250 }),
  );
  expect(models).toContainEqual(expect.objectContaining({ model: "veo-9", rpm: 1, tpm: null, rpd: 1 }));
  expect((await runIn(reading(table), "limits", "import", "-")).said).toContain(
    "There is nothing to change.",
  );
  expect((await run("limits", "import", "no-such.csv")).complained).toBe("There is no file no-such.csv.");
});

test("an answer is shown while it is made", async () => {
  const written: string[] = [];
  const { code, said } = await runIn(
    { write: (text) => written.push(text) },
    "invoke",
    "--stream",
    "Say",
    "hello",
  );
  expect(code).toBe(0);
  expect(written.join("")).not.toBe("");
  expect(said).toMatch(/gemma-4-31b-it by demo-.*tokens/);
  const events = (await run("invoke", "--stream", "--json", "Say hello")).said.split("\n").map((line) =>
    JSON.parse(line)
  );
  expect(events[0].event).toBe("started");
  expect(events.at(-1)).toMatchObject({ event: "done", model: "gemma-4-31b-it" });
  const refused = await run("invoke", "--stream", "--model", "gpt-9", "Hello");
  expect([refused.code, refused.said]).toEqual([1, expect.stringMatching(/^unknown_model: /)]);
});

test("requests are found and shown with their attempts, fault, refusals and captured text", async () => {
  await sql`update eve.consumers set capture = true where name = 'project'`;
  await fetch(`${stack.emulatorUrl}/__control/faults`, {
    method: "POST",
    body: JSON.stringify({ kind: "status", error: "overloaded", times: 1 }),
  }).then((response) => response.body?.cancel());
  const id = `search-${crypto.randomUUID()}`;
  const asked = await stack.invoke("llm-invoke", {
    model: "gemma-4-26b-a4b-it",
    prompt: "Name a colour",
    request_id: id,
    capture: true,
  });
  expect(asked.status, await asked.text()).toBe(200);
  const refused = await stack.invoke("llm-invoke", {
    model: "gpt-9",
    prompt: "x",
    request_id: `${id}-refused`,
  });
  await refused.body?.cancel();

  // It is settled after it was answered.
  const search = async () => {
    const filter = ["--model", "gemma-4-26b-a4b-it", "--outcome", "succeeded"];
    return (await json("requests", "list", ...filter)).requests;
  };
  await expect.poll(async () => (await search()).length).toBe(1);
  const requests = await search();
  expect(requests).toMatchObject([{ request_id: id, state: "succeeded", consumer: "project", attempts: 2 }]);
  expect((await json("requests", "list", "--id", id, "--since", "1h")).requests).toHaveLength(1);
  expect((await run("requests", "list", "--id", "nothing")).said).toBe("Nothing was found.");
  expect((await json("requests", "list", "--until", "2020-01-01")).requests).toEqual([]);
  expect((await run("requests", "list", "--outcome", "refused")).said).toMatch(
    /refused +project +gpt-9.*unknown_model/,
  );
  const first = await json("requests", "list", "--limit", "1");
  const second = await json("requests", "list", "--limit", "1", "--before", String(first.next_before));
  // By time: connections take numbers in blocks.
  expect(second.requests[0].request_no).not.toBe(first.requests[0].request_no);
  expect(Date.parse(second.requests[0].finished_at)).toBeLessThanOrEqual(
    Date.parse(first.requests[0].finished_at),
  );
  expect((await run("requests", "list", "--consumer", "nobody")).complained).toMatch(
    /no consumer named nobody/,
  );

  const shown = await run("requests", "show", id);
  expect(shown.said).toMatch(
    /Attempt 1\n +outcome +failed, upstream_unavailable\n +whose fault +upstream's, and passing/,
  );
  expect(shown.said).toMatch(/Attempt 2\n +outcome +succeeded/);
  await expect.poll(async () => (await run("requests", "show", String(requests[0].request_no))).said)
    .toMatch(/Prompt\n[^]*Name a colour[^]*Answer\n/);
});

test("what ends is shown while it ends, once, and Ctrl-C ends it in order", async () => {
  const interrupted = new AbortController();
  const lines: string[] = [];
  let looks = 0;
  const tail = runIn(
    {
      say: (text) => lines.push(text),
      signal: interrupted.signal,
      sleep: () => {
        looks++;
        return new Promise((resolve) => setTimeout(resolve, 50));
      },
    },
    "tail",
    "--lines",
    "0",
    "--json",
  );
  const id = `tail-${crypto.randomUUID()}`;
  await until(() => looks > 0);
  const asked = await stack.invoke("llm-invoke", {
    model: "gemma-4-31b-it",
    prompt: "Hello",
    request_id: id,
  });
  await asked.body?.cancel();
  const refused = await stack.invoke("llm-invoke", {
    model: "gpt-9",
    prompt: "Hello",
    request_id: `${id}-not`,
  });
  await refused.body?.cancel();
  const seen = () => lines.map((line) => JSON.parse(line)).filter((row) => row.request_id.startsWith(id));
  await until(() => seen().length >= 2);
  // The database reports the last seconds again and again, and we do so once.
  const then = looks;
  await until(() => looks > then + 3);
  expect(seen().map((row) => row.state).sort()).toEqual(["refused", "succeeded"]);
  interrupted.abort();
  expect((await tail).code).toBe(0);
  expect((await run("tail", "--lines", "5000")).code).toBe(2);
});

test("kept answers: shown, set for a consumer, counted in usage, bounded and flushed", async () => {
  const ask = () =>
    stack.invoke("llm-invoke", { model: "gemma-4-31b-it", prompt: "Keep this.", cache: { ttl_s: 600 } });
  await (await ask()).body?.cancel();
  const hit = await ask();
  await hit.body?.cancel();
  const key = /^hit; .*key=([0-9a-f]{16})$/.exec(hit.headers.get("x-eve-cache") ?? "")?.[1];
  expect(await json("cache", "stats")).toMatchObject({
    totals: { hits: 1, misses: 1 },
    stored: { answers: 1 },
  });
  expect((await run("cache", "stats", "--since", "today")).said).toMatch(/hits +1 of 2 calls, 50 %/);
  expect((await run("usage", "--since", "today")).said).toContain("Kept answers: 1 hits (50 %");
  expect(await json("cache", "consumer", "project", "--ttl", "1h")).toEqual({
    consumer: "project",
    ttl_s: 3_600,
    by_tenant: false,
  });
  expect((await run("cache", "consumer", "project", "--ttl", "none")).said).toContain("if a call asks");
  expect((await run("cache", "flush")).code).toBe(2);
  expect(await json("cache", "flush", "--key", key!)).toEqual({ deleted: 1 });
  expect(await json("cache", "limit", "--mb", "100")).toEqual({ max_bytes: 100_000_000, deleted: 0 });
});

test("what was spent is summed up to this moment, for people, programs and spreadsheets", async () => {
  const before = await json("usage", "--by", "model", "--since", "today", "--model", "gemma-4-31b-it");
  await ask(stack.keys.secret).then((response) => response.text());
  await expect.poll(async () =>
    (await json("usage", "--by", "model", "--since", "today", "--model", "gemma-4-31b-it")).totals.requests
  ).toBe(before.totals.requests + 1);
  const people = await run("usage", "--by", "consumer,model", "--chart", "tokens");
  expect(people.said).toMatch(/project +gemma-4-31b-it +\d+ .*[▏▎▍▌▋▊▉█]/);
  const { rows } = await json("usage", "--by", "day,hour,key", "--since", "24h");
  expect(rows[0]).toMatchObject({ day: expect.stringMatching(/^\d{4}-\d\d-\d\d$/), key: expect.anything() });
  const sheet = (await run("usage", "--by", "model", "--csv")).said.split("\r\n");
  expect(sheet[0]).toBe(
    "model,requests,succeeded,failed,cancelled,expired,refused,attempts,dispatched,upstream_refused,input_tokens,output_tokens,thoughts_tokens,cached_tokens,wait_ms,latency_ms,paid_usd,free_usd,paid_unknown,free_unknown",
  );
  expect(sheet).toContainEqual(expect.stringMatching(/^gemma-4-31b-it,\d+,/));
  const top = await json("usage", "--by", "consumer,model", "--top", "1");
  const named = top.rows.reduce((sum: number, row: { requests: number }) => sum + row.requests, 0);
  expect(named + (top.others?.requests ?? 0)).toBe(top.totals.requests);
  expect(new Set(top.rows.map((row: { consumer: string }) => row.consumer)).size).toBe(1);
  expect((await run("usage", "--consumer", "nobody")).code).toBe(1);
  expect((await run("usage", "--since", "61m")).said).toContain("The sums are of whole hours");
  expect((await run("usage", "--since", "today")).said).not.toContain("whole hours");
});

test("a stack that does not run: the advice is to start it", async () => {
  for (
    const args of [["keys", "list"], ["models", "list"], ["invoke", "Hello"], ["maintenance", "run", "sweep"]]
  ) {
    const complained: string[] = [];
    const code = await eve(args, {
      say: () => {},
      complain: (text) => complained.push(text),
      connect: () => connect("http://127.0.0.1:9", "sb_secret_x"),
    });
    expect([code, ...complained], args.join(" ")).toEqual([
      3,
      "The local stack does not run: start it with `npm start`. (Nothing listens at http://127.0.0.1:9.)",
    ]);
  }
});

test("alerts are listed, shown with advice, and closed", async () => {
  await sql`
    insert into eve.alerts (kind, subject, severity, message)
    values ('lane_exhausted', 'demo-one gemma-4-31b-it', 'critical', 'The day is used up.')
  `;
  const listed = await run("alerts", "list", "--kind", "lane_exhausted");
  expect([listed.code, listed.said]).toEqual([
    1,
    expect.stringMatching(/critical +lane_exhausted .*The day is used up/),
  ]);
  const [{ id }] = JSON.parse((await run("alerts", "list", "--kind", "lane_exhausted", "--json")).said);
  expect((await run("alerts", "show", String(id))).said).toMatch(/what to do +\w/);
  expect((await json("alerts", "close", String(id))).closed_at).not.toBeNull();
  expect(await json("alerts", "list", "--kind", "lane_exhausted")).toEqual([]);
  expect(await json("alerts", "list", "--kind", "lane_exhausted", "--all")).toHaveLength(1);
  expect((await run("alerts", "show", "999999")).code).toBe(1);
});

test("maintenance is run, listed and looked up", async () => {
  expect(await json("maintenance", "run", "sweep")).toMatchObject({ status: "succeeded" });
  const nothing = await run("maintenance", "run", "dusting");
  expect([nothing.code, nothing.complained]).toEqual([1, expect.stringMatching(/There are: .*sweep/)]);
  expect((await json("maintenance", "log", "sweep", "--since", "1h"))[0]).toMatchObject({
    operation: "sweep",
  });
  const failed = await run("maintenance", "log", "--failed", "--since", "1m");
  expect([failed.code, failed.said]).toEqual([0, "No run since 1m has failed."]);
  expect((await run("maintenance", "log", "report", "--since", "1m")).said).toBe(
    "There was no run of report since 1m.",
  );
  await sql`
    insert into public.google_ai_maintenance_log (operation, status, started_at, completed_at, details)
    values ('report', 'failed', now() - interval '2 days', now() - interval '2 days', '{"error": "no room"}')`;
  expect((await run("maintenance", "log", "--failed")).said.split("\n")).toEqual([
    expect.stringMatching(/^started +operation +status/),
    expect.stringMatching(/report +failed +0 ms +\{"error":"no room"\}/),
  ]);
  expect((await run("maintenance", "list")).said).toMatch(/sweep +\* \* \* \* \* +database +succeeded/);
  await json("maintenance", "connect");
  expect((await run("maintenance", "connect")).said).toBe("Vault has them already.");
});

test("keys are checked at no cost, and a bad one is reported", async () => {
  expect((await run("keys", "test", "demo-a")).said).toMatch(/demo-a +works/);
  await json("keys", "add", "empty", "--env", "GOOGLE_API_KEY_NOT_SET");
  const bad = await run("keys", "test", "empty");
  expect([bad.code, bad.said]).toEqual([
    1,
    expect.stringMatching(
      /has no secret .*keys set empty; or start the local stack with GOOGLE_API_KEY_NOT_SET/,
    ),
  ]);
  expect((await run("keys", "test", "nobody")).complained).toBe(
    "There is no key named nobody. See `keys list`.",
  );
  await json("keys", "disable", "empty");
});

describe("a command line that makes no sense ends with 2 and says what does", () => {
  test.each<[string[], RegExp]>([
    [["frobnicate"], /Unknown command 'frobnicate'\. See: npm run eve -- --help/],
    [["ky", "list"], /Did you mean keys\?/],
    [["keys", "lsit"], /Did you mean list\?/],
    [["usage", "--form", "today"], /Unknown option '--form'/],
    [["usage", "--by", "weekday"], /--by must be some of day, hour, consumer/],
    [["usage", "--by", "consumer", "--top", "101"], /--top must be between 1 and 100/],
    [["usage", "--top", "3"], /--top needs consumer, model, key or endpoint first/],
    [["usage", "--since", "tomorrow"], /--since must be a time such as today/],
    [["usage", "--csv", "--json"], /--csv or --json/],
    [["requests", "list", "--outcome", "lost"], /--outcome must be succeeded, failed/],
    [["requests", "list", "--limit", "0"], /--limit must be between 1 and 1,000/],
    [["alerts", "show", "first"], /by its number, not first/],
    [["profiles", "add", "x", "--url", "https://x.example"], /either --key-env.*or --key-file/],
    [["limits", "set", "gemma-4-31b-it", "--rpm", "1", "--notes", "x"], /--notes belongs to --quota-project/],
    [["consumers"], /needs to know what to do: consumers add, consumers list/],
    [["consumers", "add"], /Missing required argument 'NAME'/],
    [["consumers", "add", "x"], /--kind is missing/],
    [["consumers", "add", "x", "--kind", "robot"], /--kind must be service or notebook/],
    [["consumers", "add", "x", "--kind", "service", "--rpm", "many"], /--rpm must be a whole number/],
    [
      ["consumers", "add", "x", "--kind", "service", "--scopes", "llm,root"],
      /--scopes must be .*intake, .*not root/,
    ],
    [["consumers", "access", "x", "--scopes", ","], /--scopes must be one or more of llm, media/],
    [["tokens", "issue", "x", "--scopes", "files"], /--scopes must be .*not files/],
    [["tenants", "set", "x"], /at least one of --name, --storage-limit-gb and --default/],
    [["tenants", "add", "x", "--storage-limit-gb", "2GB"], /--storage-limit-gb must be a number/],
    [["tenants", "add-member", "x", "ann"], /A user's id looks like/],
    [["consumers", "show", "x", "y"], /Too many arguments for 'show'/],
    [["consumers", "list", "--colour"], /Unknown option '--colour'/],
    [["consumers", "rotate", "x", "--grace", "soon"], /--grace must be a duration/],
    [["tokens", "revoke"], /either the token's id or --consumer/],
    [["tokens", "revoke", "abc"], /A token's id looks like/],
    [["limits", "set", "gemma-4-31b-it"], /at least one of --rpm/],
    [["invoke"], /Missing required argument 'PROMPT'/],
  ])("%j", async (args, message) => {
    const { code, said, complained } = await run(...args);
    expect(code).toBe(2);
    expect(args.includes("--json") ? said : complained).toMatch(message);
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

/** The folder from which a program finds this stack. */
const asLocalStack = () => ({ EVE_DATA_DIR: stack.dataDir, SUPABASE_URL: "", SUPABASE_SECRET_KEY: "" });

test("as a program: without colour in a pipe, finding the stack by its folder", async () => {
  await Deno.writeTextFile(
    `${stack.dataDir}/env`,
    `SUPABASE_URL=${stack.url}\nSUPABASE_SECRET_KEY=${stack.keys.secret}\n`,
  );
  const program = (env: Record<string, string>) =>
    new Deno.Command("node", {
      args: ["local/run.mjs", "cli/eve.ts", "keys", "list"],
      cwd: CHECKOUT,
      env: { ...asLocalStack(), ...env },
    }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  const local = await program({});
  expect(local.code, text(local.stderr)).toBe(0);
  expect(text(local.stdout)).toContain("demo-a");
  expect(text(local.stdout)).not.toContain("\x1b");
  const half = await program({ SUPABASE_URL: stack.url });
  expect([half.code, text(half.stderr).trim()]).toEqual([
    3,
    "SUPABASE_SECRET_KEY is not set: set both, or neither for the local stack.",
  ]);
  const wrong = await program({ SUPABASE_URL: stack.url, SUPABASE_SECRET_KEY: "sb_secret_wrong" });
  expect(wrong.code).toBe(3);
  expect(text(wrong.stderr)).not.toContain("sb_secret_wrong");
});

test.skipIf(!hasPython)(
  "colour is for a terminal that wants it, and progress for a terminal alone",
  async () => {
    const script = `
import os, pty, sys
os.environ.update(EVE_DATA_DIR=sys.argv[1], SUPABASE_URL="", SUPABASE_SECRET_KEY="", TERM="xterm")
sys.exit(os.waitstatus_to_exitcode(pty.spawn(["node", "local/run.mjs", "cli/eve.ts", *sys.argv[2:]])))
`;
    const atTerminal = async (env: Record<string, string>, ...args: string[]) => {
      const { code, stdout } = await new Deno.Command("python3", {
        args: ["-c", script, stack.dataDir, ...args],
        cwd: CHECKOUT,
        env: { NO_COLOR: "", ...env },
        stdin: "null",
      }).output();
      return { code, text: new TextDecoder().decode(stdout) };
    };
    const shown = await atTerminal({}, "keys", "test", "demo-a");
    expect([shown.code, shown.text]).toEqual([0, expect.stringContaining("\x1b[32mworks\x1b[0m")]);
    expect(shown.text).toMatch(/key_health: run 1/);
    const plain = await atTerminal({ NO_COLOR: "1" }, "keys", "list");
    expect(plain.text).toContain("demo-a");
    expect(plain.text).not.toContain("\x1b[3");
  },
);

test("Ctrl-C at the terminal ends tail with 0", async () => {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      "--cached-only",
      "--unstable-no-legacy-abort",
      "cli/eve.ts",
      "tail",
      "--lines",
      "1",
      "--json",
    ],
    cwd: CHECKOUT,
    env: asLocalStack(),
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  expect(JSON.parse(new TextDecoder().decode((await reader.read()).value))).toHaveProperty("request_id");
  // At a terminal it comes from there, and once more from the launcher.
  child.kill("SIGINT");
  child.kill("SIGINT");
  while (!(await reader.read()).done);
  expect((await child.status).code).toBe(0);
  expect(await new Response(child.stderr).text()).toBe("");
});
