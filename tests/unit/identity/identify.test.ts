import { describe, expect, test } from "vitest";
import type { Caller } from "../../../shared/contract/caller.ts";
import { type Authorities, identify } from "../../../shared/identity/identify.ts";
import { mintConsumerSecret } from "../../../shared/tokens/consumer_secret.ts";
import { signToken } from "../../../shared/tokens/sign.ts";
import { tokenRules } from "../../../shared/tokens/token_rules.ts";

const KEYS = {
  url: "http://127.0.0.1:54321",
  secretKeys: { default: "sb_secret_for_tests_only", ci: "sb_secret_second_for_tests" },
  publishableKeys: { default: "sb_publishable_for_tests" },
};
const SECRET = KEYS.secretKeys.default;
const PUBLISHABLE = KEYS.publishableKeys.default;
// {"alg":"HS256"}.{"role":"authenticated"}, unsigned.
const SESSION = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYXV0aGVudGljYXRlZCJ9.c2ln";

const SERVICE = await mintConsumerSecret("service");
const NOTEBOOK = await mintConsumerSecret("notebook");
const DISABLED = await mintConsumerSecret("service");
/** Wrong, from a network that has sent too many of those. */
const CROWDED = await mintConsumerSecret("service");
const CONSUMER_ID = "5f0c8f1e-7a7e-4bd7-9d0a-0d6a3c9f1a11";
const TOKEN_ID = "9b7a3a52-30f7-4a9f-8a44-1f9b0a7c2b22";

/** The database's part: it knows three secrets by their proofs, and remembers what it was told of refusals. */
const refusals: string[] = [];
const access: Authorities["access"] = {
  authenticate: ({ keyId, proof }) => {
    const holder = [SERVICE, NOTEBOOK, DISABLED].find((one) => one.keyId === keyId && one.proof === proof);
    if (keyId === CROWDED.keyId) {
      return Promise.resolve({ status: "refused", code: "rate_limited", retryAfterMs: 12_000 });
    }
    if (holder === DISABLED) return Promise.resolve({ status: "refused", code: "consumer_disabled" });
    return Promise.resolve(
      holder === undefined
        ? { status: "refused", code: "credential_invalid" }
        : { status: "known", consumerId: CONSUMER_ID, name: "bot", kind: holder.kind },
    );
  },
  noteRefusal: (code) => {
    refusals.push(code);
    return tooManyWrong ? Promise.resolve(12_000) : Promise.resolve(null);
  },
};
let tooManyWrong = false;
const RULES = tokenRules(KEYS.url, [{ kid: "now", key: new Uint8Array(32).fill(7) }]);

const seconds = () => Math.floor(Date.now() / 1000);
const tokenFor = (lifeSeconds = 600) =>
  signToken({
    tokenId: TOKEN_ID,
    consumerId: CONSUMER_ID,
    scope: { models: null, class: "batch", requests: null, tokens: null },
    issuedAt: seconds() - 3_600,
    expiresAt: seconds() + lifeSeconds,
  }, RULES);

const who = (headers: Record<string, string>, keys = KEYS, query = "") =>
  identify(new Request(`http://gateway/llm-invoke${query}`, { method: "POST", headers }), {
    project: keys,
    tokens: RULES,
    access,
    background: () => {},
  });

describe("the project's secret key", () => {
  test.each<[string, Record<string, string>]>([
    ["as apikey", { apikey: SECRET }],
    ["as a Bearer token", { authorization: `Bearer ${SECRET}` }],
    ["with the scheme in lower case", { authorization: `bearer ${SECRET}` }],
    ["in both, as supabase-js sends it", { apikey: SECRET, authorization: `Bearer ${SECRET}` }],
    ["as a Bearer token beside the publishable key", {
      apikey: PUBLISHABLE,
      authorization: `Bearer ${SECRET}`,
    }],
  ])("%s lets in", async (_, headers) => {
    expect(await who(headers)).toEqual({ kind: "project", consumerId: null, tokenId: null, name: "default" });
  });

  test("any of several is accepted, under its own name", async () => {
    expect(await who({ apikey: KEYS.secretKeys.ci })).toMatchObject({ name: "ci" });
  });
});

/** Every place where the clients of some endpoint put their key. */
const PLACES: [string, (key: string) => Promise<Caller>][] = [
  ["as a Bearer token", (key) => who({ authorization: `Bearer ${key}` })],
  ["as apikey", (key) => who({ apikey: key })],
  ["as x-goog-api-key", (key) => who({ "x-goog-api-key": key })],
  ["as the query's key", (key) => who({}, KEYS, `?key=${key}`)],
  ["beside the publishable key", (key) => who({ apikey: PUBLISHABLE, authorization: `Bearer ${key}` })],
];

describe("a service consumer's key", () => {
  test.each(PLACES)("%s is accepted, on that consumer's account", async (_, call) => {
    expect(await call(SERVICE.text)).toEqual({
      kind: "service",
      consumerId: CONSUMER_ID,
      tokenId: null,
      name: "bot",
    });
  });

  test.each([
    ["with another secret", SERVICE.text.replace(/.$/, (last) => last === "0" ? "1" : "0")],
    ["of nobody", `eve_service_${"0".repeat(16)}_${"0".repeat(64)}`],
    ["under another kind", SERVICE.text.replace("eve_service", "eve_notebook")],
    ["cut short", SERVICE.text.slice(0, -1)],
  ])("%s is refused", async (_, key) => {
    await expect(who({}, KEYS, `?key=${key}`)).rejects.toMatchObject({
      code: "credential_invalid",
    });
  });

  test("of a disabled consumer is refused as that", async () => {
    await expect(who({ apikey: DISABLED.text })).rejects.toMatchObject({
      code: "consumer_disabled",
      status: 403,
    });
  });
});

describe("a notebook", () => {
  test.each(PLACES)("comes in with its token %s", async (_, call) => {
    expect(await call(await tokenFor())).toMatchObject({
      kind: "notebook",
      consumerId: CONSUMER_ID,
      tokenId: TOKEN_ID,
    });
  });

  test("is advised to fetch a new token when its own has expired, and the audit has it", async () => {
    refusals.length = 0;
    await expect(who({ authorization: `Bearer ${await tokenFor(-60)}` })).rejects.toMatchObject({
      code: "token_revoked",
      status: 401,
    });
    expect(refusals).toEqual(["token_revoked"]);
  });

  test("may not call with its enrolment secret, and learns where that goes", async () => {
    await expect(who({ apikey: NOTEBOOK.text })).rejects.toMatchObject({
      code: "credential_insufficient",
      publicMessage: expect.stringMatching(/issue-kaggle-token/),
    });
  });

  test("is not lifted by the secret key beside its expired token", async () => {
    await expect(who({ apikey: SECRET, authorization: `Bearer ${await tokenFor(-60)}` })).rejects
      .toMatchObject(
        { code: "token_revoked" },
      );
  });
});

describe("everybody else is refused, with what to do", () => {
  test.each<[string, Record<string, string>, string, number]>([
    ["nobody", {}, "credential_missing", 401],
    ["an empty key", { apikey: " " }, "credential_missing", 401],
    ["the publishable key", { apikey: PUBLISHABLE }, "credential_insufficient", 403],
    [
      "the publishable key as Bearer",
      { authorization: `Bearer ${PUBLISHABLE}` },
      "credential_insufficient",
      403,
    ],
    ["a wrong key", { apikey: "sb_secret_wrong" }, "credential_invalid", 401],
    ["a key cut short", { apikey: SECRET.slice(0, -1) }, "credential_invalid", 401],
    ["a user's session", { authorization: `Bearer ${SESSION}` }, "credential_invalid", 401],
    ["a legacy key", { apikey: SESSION }, "credential_invalid", 401],
    ["a password", { authorization: "Basic dXNlcjpwYXNz" }, "credential_invalid", 401],
    ["a scheme without a key", { authorization: "Bearer" }, "credential_invalid", 401],
    ["a key of a megabyte", { apikey: "x".repeat(1_000_000) }, "credential_invalid", 401],
  ])("%s", async (_, headers, code, status) => {
    await expect(who(headers)).rejects.toMatchObject({
      code,
      status,
      publicMessage: expect.stringMatching(/key|Bearer/),
    });
  });

  test.each<[string, Record<string, string>]>([
    ["an invalid Bearer token beside the secret key", {
      apikey: SECRET,
      authorization: "Bearer sb_secret_wrong",
    }],
    ["a session beside the secret key", { apikey: SECRET, authorization: `Bearer ${SESSION}` }],
    ["an invalid apikey beside the secret key", { apikey: "wrong", authorization: `Bearer ${SECRET}` }],
  ])("%s is not passed over", async (_, headers) => {
    await expect(who(headers)).rejects.toMatchObject({ code: "credential_invalid" });
  });

  test("a publishable Bearer token is not lifted by the secret key beside it", async () => {
    await expect(who({ apikey: SECRET, authorization: `Bearer ${PUBLISHABLE}` })).rejects.toMatchObject({
      code: "credential_insufficient",
    });
  });

  test("nor does a key that was accepted before let one in that is nearly the same", async () => {
    await expect(who({ apikey: SECRET })).resolves.toMatchObject({ kind: "project", name: "default" });
    for (const near of [`${SECRET.slice(0, -1)}X`, `X${SECRET.slice(1)}`, `${SECRET}X`]) {
      await expect(who({ apikey: near })).rejects.toMatchObject({ code: "credential_invalid" });
    }
    const rotated = { ...KEYS, secretKeys: { default: KEYS.secretKeys.ci, ci: "sb_secret_third_for_tests" } };
    await expect(who({ apikey: SECRET }, rotated)).rejects.toMatchObject({ code: "credential_invalid" });
    await expect(who({ apikey: KEYS.secretKeys.ci }, rotated)).resolves.toMatchObject({ name: "default" });
    await expect(who({ apikey: KEYS.secretKeys.ci })).resolves.toMatchObject({ name: "ci" });
  });

  test("no credential is repeated in the error", async () => {
    const error = await who({ apikey: "sb_secret_mistyped" }).catch((thrown) => thrown);
    expect(Deno.inspect(error, { depth: 10 })).not.toContain("sb_secret_mistyped");
  });
});

describe("where too many wrong credentials came from the same network", () => {
  const crowded = async <Answer>(ask: () => Promise<Answer>): Promise<Answer> => {
    tooManyWrong = true;
    try {
      return await ask();
    } finally {
      tooManyWrong = false;
    }
  };

  test.each<[string, Record<string, string>]>([
    ["a wrong project key", { apikey: "sb_secret_wrong" }],
    ["a forged token", { authorization: `Bearer ${SESSION}` }],
    ["a wrong consumer's key", { apikey: CROWDED.text }],
  ])("%s is told when to come back, and no longer what was wrong", async (_, headers) => {
    await expect(crowded(() => who(headers))).rejects.toMatchObject({
      code: "rate_limited",
      status: 429,
      retryAfterMs: 12_000,
      publicMessage: expect.stringMatching(/wrong credentials came from your network/),
    });
  });

  test("a caller with a right one is accepted, and an expired token is reported as that", async () => {
    await expect(crowded(() => who({ apikey: SECRET }))).resolves.toMatchObject({ kind: "project" });
    await expect(crowded(() => who({ apikey: SERVICE.text }))).resolves.toMatchObject({ kind: "service" });
    const token = await tokenFor();
    await expect(crowded(() => who({ apikey: token }))).resolves.toMatchObject({ kind: "notebook" });
    const expired = await tokenFor(-60);
    await expect(crowded(() => who({ apikey: expired }))).rejects.toMatchObject({ code: "token_revoked" });
  });

  test("a database that does not answer leaves a wrong one what it is", async () => {
    const silent = { ...access, noteRefusal: () => Promise.reject(new Error("no connection")) };
    const request = new Request("http://gateway/llm-invoke", { headers: { apikey: "sb_secret_wrong" } });
    await expect(
      identify(request, { project: KEYS, tokens: RULES, access: silent, background: () => {} }),
    ).rejects.toMatchObject({ code: "credential_invalid" });
  });
});

test("a project without secret keys lets nobody in", async () => {
  await expect(who({ apikey: "" + SECRET }, { ...KEYS, secretKeys: {} } as typeof KEYS)).rejects
    .toMatchObject({
      code: "gateway_misconfigured",
    });
});
