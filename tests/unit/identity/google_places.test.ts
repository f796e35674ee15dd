/** Credentials where Google's and Anthropic's clients put them. */
import { describe, expect, test } from "vitest";
import { identify } from "../../../shared/identity/identify.ts";
import { tokenRules } from "../../../shared/tokens/token_rules.ts";

const KEYS = {
  url: "http://127.0.0.1:54321",
  secretKeys: { default: "sb_secret_for_tests_only", ci: "sb_secret_second_for_tests" },
  publishableKeys: { default: "sb_publishable_for_tests" },
};
const SECRET = KEYS.secretKeys.default;

const who = (query: string, headers: Record<string, string> = {}) =>
  identify(new Request(`http://gateway/llm-invoke/v1beta/models${query}`, { headers }), {
    project: KEYS,
    tokens: tokenRules(KEYS.url, []),
    access: {
      authenticate: () => Promise.resolve({ status: "refused", code: "credential_invalid" }),
      noteRefusal: () => Promise.resolve(null),
    },
    background: () => {},
  });

describe("the project's secret key", () => {
  test.each<[string, string, Record<string, string>]>([
    ["as x-goog-api-key", "", { "x-goog-api-key": SECRET }],
    ["as ?key=", `?key=${SECRET}`, {}],
    ["as x-api-key, where Anthropic's clients put it", "", { "x-api-key": SECRET }],
    ["in all places at once", `?key=${SECRET}&key=${SECRET}`, {
      "x-goog-api-key": SECRET,
      "authorization": `Bearer ${SECRET}`,
      "apikey": SECRET,
    }],
    ["in a header that was set twice", "", { "x-goog-api-key": `${SECRET}, ${SECRET}` }],
    ["beside the publishable key that the project is called with", "", {
      "x-goog-api-key": SECRET,
      "apikey": KEYS.publishableKeys.default,
    }],
    ["beside an empty parameter", "?key=", { "x-goog-api-key": SECRET }],
  ])("%s lets in", async (_, query, headers) => {
    expect(await who(query, headers)).toMatchObject({ kind: "project", name: "default" });
  });

  test("the first of two different ones names the caller", async () => {
    expect(await who(`?key=${SECRET}`, { "x-goog-api-key": KEYS.secretKeys.ci })).toMatchObject({
      name: "ci",
    });
  });
});

describe("whatever is present and invalid is refused, beside a valid one too", () => {
  test.each<[string, string, Record<string, string>]>([
    ["x-goog-api-key", "", { "x-goog-api-key": "AIza-wrong", "authorization": `Bearer ${SECRET}` }],
    ["x-api-key", "", { "x-api-key": "sk-ant-wrong", "authorization": `Bearer ${SECRET}` }],
    ["the query's `key`", "?key=AIza-wrong", { "x-goog-api-key": SECRET }],
    ["the query's `key`", `?key=${SECRET}&key=AIza-wrong`, {}],
    ["x-goog-api-key", "", { "x-goog-api-key": `${SECRET}, AIza-wrong` }],
  ])("%s", async (place, query, headers) => {
    const error = await who(query, headers).catch((thrown) => thrown);
    expect(error).toMatchObject({
      code: "credential_invalid",
      publicMessage: expect.stringContaining(place),
    });
    // Neither for the caller nor for the log.
    expect(Deno.inspect(error, { depth: 10 })).not.toContain("AIza-wrong");
  });

  test("the publishable key may not call models from here either", async () => {
    await expect(who(`?key=${KEYS.publishableKeys.default}`)).rejects.toMatchObject({
      code: "credential_insufficient",
    });
  });
});
