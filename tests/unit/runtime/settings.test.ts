import { describe, expect, test } from "vitest";
import { readSettings } from "../../../shared/runtime/settings.ts";

const HOSTED: Record<string, string> = {
  SUPABASE_URL: "https://project.supabase.co",
  SUPABASE_SECRET_KEYS: '{"default":"sb_secret_for_tests_only"}',
  SUPABASE_PUBLISHABLE_KEYS: '{"default":"sb_publishable_for_tests"}',
};
const read = (more: Record<string, string> = {}) => readSettings((name) => ({ ...HOSTED, ...more })[name]);

describe("readSettings", () => {
  test("what a hosted function has is enough", () => {
    expect(read()).toMatchObject({
      databaseKey: "sb_secret_for_tests_only",
      googleBaseUrl: undefined,
      maxWaitMs: 100_000,
      requestTimeoutMs: 140_000,
      upstreamTimeoutMs: 120_000,
    });
  });

  test("an empty variable is an unset one", () => {
    expect(read({ GOOGLE_API_BASE_URL: "", EVE_MAX_WAIT_MS: "" })).toMatchObject({
      googleBaseUrl: undefined,
      maxWaitMs: 100_000,
    });
  });

  test("another upstream, without a slash at its end", () => {
    expect(read({ GOOGLE_API_BASE_URL: "http://127.0.0.1:54323/" }).googleBaseUrl).toBe(
      "http://127.0.0.1:54323",
    );
  });

  test.each<[string, Record<string, string>]>([
    ["SUPABASE_URL", { SUPABASE_URL: "project" }],
    ["SUPABASE_SECRET_KEYS", { SUPABASE_SECRET_KEYS: "sb_secret_pasted_alone" }],
    ["SUPABASE_SECRET_KEYS", { SUPABASE_SECRET_KEYS: "{}" }],
    ["EVE_MAX_WAIT_MS", { EVE_MAX_WAIT_MS: "30s" }],
    ["EVE_MAX_WAIT_MS", { EVE_MAX_WAIT_MS: "140000" }],
    ["EVE_RPC_TIMEOUT_MS", { EVE_RPC_TIMEOUT_MS: "-1" }],
    ["GOOGLE_API_BASE_URL", { GOOGLE_API_BASE_URL: "file:///etc/passwd" }],
  ])("a wrong %s is named, its value is not", (name, wrong) => {
    const thrown = (() => {
      try {
        return read(wrong);
      } catch (error) {
        return error;
      }
    })();
    expect(thrown).toMatchObject({ code: "gateway_misconfigured", detail: expect.stringContaining(name) });
    expect(String((thrown as { detail: string }).detail)).not.toContain("pasted");
  });

  test("what is not set is said to be so, all at once", () => {
    expect(() => readSettings(() => undefined)).toThrow(expect.objectContaining({
      code: "gateway_misconfigured",
      detail: "settings: SUPABASE_URL: is not set; SUPABASE_SECRET_KEYS: is not set",
    }));
    expect(() => read({ EVE_LEDGER_TRANSPORT: "direct" })).toThrow(expect.objectContaining({
      detail: "settings: SUPABASE_DB_URL: is needed by EVE_LEDGER_TRANSPORT=direct",
    }));
    expect(() => read({ SUPABASE_URL: "project" })).toThrow(expect.objectContaining({
      detail: "settings: SUPABASE_URL: must be an address of http or https",
    }));
  });
});
