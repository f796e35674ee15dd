import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseSecretsFile } from "../../cli/deploy/secrets_file.ts";
import { makeTestFolder, type TestFolder } from "../harness/folders.ts";
import { ACCESS_TOKEN, cliAccount } from "./cli_account.ts";
import { type ManagementApi, startManagementApi } from "./management_api.ts";
import { runSupabase } from "./run_supabase.ts";

const REF = "abcdefghijklmnopqrst";

/** Everything that may be written, with what it means. */
const ACCEPTED = String.raw`# Google keys
GOOGLE_API_KEY_A=AIzaSyExample-key_1

  SPACED_OUT =  some value  
SINGLE='a#b "c" $HOME \n d'
DOUBLE="it's 50 $ # really"
DOLLAR=a$HOME${"${"}X}-b
BACKSLASH=a\nb
EQUALS=base64==
EDGES=' kept '
LAST=last`;

const MEANING = {
  GOOGLE_API_KEY_A: "AIzaSyExample-key_1",
  SPACED_OUT: "some value",
  SINGLE: 'a#b "c" $HOME \\n d',
  DOUBLE: "it's 50 $ # really",
  DOLLAR: "a$HOME${X}-b",
  BACKSLASH: "a\\nb",
  EQUALS: "base64==",
  EDGES: " kept ",
  LAST: "last",
};

test("names and values are read, whatever ends the lines", () => {
  expect(Object.fromEntries(parseSecretsFile(ACCEPTED, "keys.env"))).toEqual(MEANING);
  expect(Object.fromEntries(parseSecretsFile(ACCEPTED.replaceAll("\n", "\r\n"), "keys.env"))).toEqual(
    MEANING,
  );
});

describe("what is accepted means the same to the Supabase CLI", () => {
  let folder: TestFolder;
  let api: ManagementApi;

  beforeAll(async () => {
    folder = await makeTestFolder();
    api = startManagementApi({ ref: REF, name: "a test", accessToken: ACCESS_TOKEN });
  });

  afterAll(async () => {
    await Promise.all([api?.stop(), folder?.remove()]);
  });

  test("to the letter", async () => {
    const file = `${folder.path}/keys.env`;
    await Deno.writeTextFile(file, ACCEPTED);
    const done = await runSupabase(
      folder.path,
      ["secrets", "set", `--env-file=${file}`, `--remote=${REF}`, "--yes"],
      await cliAccount(api, folder.path),
    );
    expect(done).toMatchObject({ success: true });
    expect(Object.fromEntries(api.secrets)).toEqual(MEANING);
  });
});

test.each([
  ["A=1\nGOOGLE_API_KEY", "line 2: this is not NAME=value"],
  ["export A=1", "line 1: the part before = is not a name"],
  ["1A=1", "line 1: the part before = is not a name"],
  ["=1", "line 1: the part before = is not a name"],
  ["\n\nKEY=", "line 3: KEY has no value"],
  ["KEY=''", "line 1: KEY has no value"],
  ["KEY='  '", "line 1: KEY has no value"],
  ["KEY=a\nKEY=b", "line 2: KEY is there twice"],
  ["SUPABASE_URL=x", "line 1: SUPABASE_URL begins with SUPABASE_"],
  ["KEY=abc#def", "line 1: KEY has # in it"],
  ["KEY=it's", "line 1: KEY has ' in it"],
  ["KEY='abc", "line 1: KEY has a quote that is not closed"],
  ["KEY='", "line 1: KEY has a quote that is not closed"],
  ["KEY='abc' # mine", "line 1: KEY has a quote that is not closed"],
  ["KEY='it's'", "line 1: KEY has a quote of the same kind"],
  ['KEY="a\\nb"', "line 1: KEY has a backslash between double quotes"],
  ["KEY='abc\\'", "line 1: KEY ends with a backslash"],
])("%j is refused", (text, message) => {
  expect(() => parseSecretsFile(text, "keys.env")).toThrow(`keys.env, ${message}`);
});

test("a refusal never shows the value", () => {
  try {
    parseSecretsFile("KEY='very secret", "keys.env");
    expect.unreachable();
  } catch (error) {
    expect((error as Error).message).not.toContain("very secret");
  }
});
