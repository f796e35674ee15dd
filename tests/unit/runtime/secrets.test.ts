import { expect, test } from "vitest";
import { environmentSecrets } from "../../../shared/runtime/secrets.ts";

const environment: Record<string, string> = {
  GOOGLE_API_KEY: " demo-key-a\n",
  BLANK: "  ",
  SUPABASE_SECRET_KEYS: "{}",
  EVE_MAX_WAIT_MS: "1",
  ADMIN_SECRET_KEY: "opens every stored key",
  S3_SECRET_ACCESS_KEY: "opens every file",
  PATH: "/usr/bin",
  NODE_OPTIONS: "--inspect",
};
const secrets = environmentSecrets((name) => {
  if (name.includes("=") || name === "") throw new TypeError("the runtime takes no such name");
  return environment[name];
});

test("a secret is found by the name in its key's row, without the white space of a paste", () => {
  expect(secrets("GOOGLE_API_KEY")).toBe("demo-key-a");
});

test.each(["NOT_SET", "BLANK", "", "A=B", "A B", "../x"])("%j has no secret, and breaks nothing", (name) => {
  expect(secrets(name)).toBeNull();
});

test.each([
  "SUPABASE_SECRET_KEYS",
  "supabase_url",
  "EVE_MAX_WAIT_MS",
  "ADMIN_SECRET_KEY",
  "S3_SECRET_ACCESS_KEY",
  "PATH",
  "NODE_OPTIONS",
])(
  "%s is never sent to a model's host",
  (name) => {
    expect(secrets(name)).toBeNull();
  },
);
