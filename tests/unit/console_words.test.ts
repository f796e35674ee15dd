/** What the gateway keeps as a code, a person is told in words: at the command line, and in each language of the console. */
import { expect, test } from "vitest";
import { en } from "../../console/src/i18n/en.ts";
import { ru } from "../../console/src/i18n/ru.ts";
import { because } from "../../cli/eve/key_advice.ts";
import { BLOCK_REASONS, type BlockReason } from "../../shared/contract/block.ts";
import { ERRORS } from "../../shared/contract/errors.ts";

const root = new URL("../../", import.meta.url);

function sourcesOf(folder: string): string {
  let text = "";
  for (const entry of Deno.readDirSync(new URL(`${folder}/`, root))) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) text += sourcesOf(path);
    else if (/\.(ts|sql)$/.test(entry.name)) text += Deno.readTextFileSync(new URL(path, root));
  }
  return text;
}

/** What stands in the code as a reason: of a key, of a key's model, of a lane; by providers, by the gateway itself, and by SQL. */
const STORED =
  /\b(?:badKey|noSuchModel)\(\s*"([a-z_]+)"|scope: "(?:lane|key|key_model)",[^}]*?\}?,\s*reason: "([a-z_]+)"|blocked_reason = (?:coalesce\(v_reason, )?'([a-z_]+)'/g;

test("each reason for which a key or a lane is not used has words", () => {
  const code = sourcesOf("shared/providers") + sourcesOf("shared/gateway") + sourcesOf("supabase/migrations");
  const stored = new Set([...code.matchAll(STORED)].map((found) => found[1] ?? found[2] ?? found[3]!));
  expect(stored.size).toBeGreaterThan(8);
  for (const reason of new Set([...stored, ...Object.keys(BLOCK_REASONS)])) {
    expect(because(reason)).toMatch(/ .*\(/);
    expect(en.blocks[reason as BlockReason], reason).toMatch(/ /);
    expect(ru.blocks[reason as BlockReason], reason).toMatch(/[а-я] /);
  }
});

test("each code of an error has words in Russian: the gateway's own are English", () => {
  const words: Record<string, string> = ru.codes;
  expect(Object.keys(ERRORS).filter((code) => !/[а-я]{2}.*\.$/.test(words[code] ?? ""))).toEqual([]);
  expect(Object.keys(words).filter((code) => !(code in ERRORS) && code !== "not_found")).toEqual([]);
});
