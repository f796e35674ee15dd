import { describe, expect, test } from "vitest";
import { identify } from "../../../shared/identity/identify.ts";

const KEYS = {
  url: "http://127.0.0.1:54321",
  secretKeys: { default: "sb_secret_for_tests_only", ci: "sb_secret_second_for_tests" },
  publishableKeys: { default: "sb_publishable_for_tests" },
};
const SECRET = KEYS.secretKeys.default;
const PUBLISHABLE = KEYS.publishableKeys.default;
// {"alg":"HS256"}.{"role":"authenticated"}, unsigned.
const SESSION = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYXV0aGVudGljYXRlZCJ9.c2ln";

const who = (headers: Record<string, string>, keys = KEYS) =>
  identify(new Request("http://gateway/llm-invoke", { method: "POST", headers }), keys);

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

  test("any of several lets in, under its own name", async () => {
    expect(await who({ apikey: KEYS.secretKeys.ci })).toMatchObject({ name: "ci" });
  });
});

describe("everybody else is refused, and told what to do", () => {
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

  test("no credential is repeated in the error", async () => {
    const error = await who({ apikey: "sb_secret_mistyped" }).catch((thrown) => thrown);
    expect(Deno.inspect(error, { depth: 10 })).not.toContain("sb_secret_mistyped");
  });
});

test("a project without secret keys lets nobody in", async () => {
  await expect(who({ apikey: "" + SECRET }, { ...KEYS, secretKeys: {} } as typeof KEYS)).rejects
    .toMatchObject({
      code: "gateway_misconfigured",
    });
});
