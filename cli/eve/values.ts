/** Values of options, from text. */
import { type ScopeName, SCOPES } from "../../shared/contract/actor.ts";
import { misuse } from "./failure.ts";
import type { Given } from "./command.ts";

export const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };

/** `90s`, `15m`, `2h`, `7d`, or a bare number of seconds. */
export function readDuration(name: string, text: string): number {
  const [, number, unit = "s"] = /^(\d{1,9})([smhd]?)$/.exec(text) ?? [];
  if (number === undefined) {
    throw misuse(`--${name} must be a duration such as 90s, 15m, 2h or 7d, not ${text}.`);
  }
  return Number(number) * (UNIT_SECONDS[unit] ?? 1);
}

/** A whole number; null for `none`. Undefined: the option is absent. */
export function readLimit(given: Given, name: string): number | null | undefined {
  const text = given.option(name);
  if (text === undefined) return undefined;
  if (text === "none") return null;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw misuse(`--${name} must be a whole number, or none for no limit, not ${text}.`);
}

/** A share, given in per cent from 0 to 90, as a number from 0 to 0.9. Undefined: the option is absent. */
export function readShare(given: Given, name: string): number | undefined {
  const text = given.option(name);
  if (text === undefined) return undefined;
  const percent = /^(\d{1,2}(?:\.\d{1,3})?)%?$/.exec(text)?.[1];
  if (percent === undefined || Number(percent) > 90) {
    throw misuse(`--${name} must be per cent from 0 to 90, not ${text}.`);
  }
  return Number((Number(percent) / 100).toFixed(5));
}

/** A whole number. Undefined: the option is absent. */
export function readNumber(given: Given, name: string): number | undefined {
  const text = given.option(name);
  if (text === undefined) return undefined;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw misuse(`--${name} must be a whole number, not ${text}.`);
}

/** A number such as 10 or 0.5, from 0. Undefined: the option is absent. */
export function readAmount(given: Given, name: string): number | undefined {
  const text = given.option(name);
  if (text === undefined) return undefined;
  if (/^\d{1,7}(\.\d{1,9})?$/.test(text)) return Number(text);
  throw misuse(`--${name} must be a number such as 10 or 0.5, not ${text}.`);
}

/** Scopes with commas between them. Undefined: the option is absent. */
export function readScopes(given: Given): ScopeName[] | undefined {
  const text = given.option("scopes");
  if (text === undefined) return undefined;
  const names = text.split(",").map((name) => name.trim()).filter((name) => name !== "");
  const isScope = (name: string): name is ScopeName => SCOPES.some((scope) => scope === name);
  const unknown = names.find((name) => !isScope(name));
  if (unknown !== undefined || names.length === 0) {
    throw misuse(
      `--scopes must be one or more of ${SCOPES.join(", ")}, with commas between them${
        unknown === undefined ? "" : `, not ${unknown}`
      }.`,
    );
  }
  return [...new Set(names.filter(isScope))];
}

/** Names with commas between them; null for `all`. Undefined: the option is absent. */
export function readModels(given: Given): string[] | null | undefined {
  const text = given.option("models");
  if (text === undefined) return undefined;
  if (text === "all") return null;
  const names = text.split(",").map((name) => name.trim()).filter((name) => name !== "");
  if (names.length === 0) throw misuse("--models must name models with commas between them, or be all.");
  return names;
}

export function readChoice<const T extends string>(
  given: Given,
  name: string,
  choices: readonly T[],
): T | undefined {
  const text = given.option(name);
  if (text === undefined) return undefined;
  const choice = choices.find((one) => one === text);
  if (choice === undefined) throw misuse(`--${name} must be ${inWords(choices)}, not ${text}.`);
  return choice;
}

/** `a`, `a or b`, `a, b or c`. */
function inWords(choices: readonly string[]): string {
  const last = choices.at(-1) ?? "";
  return choices.length < 2 ? last : `${choices.slice(0, -1).join(", ")} or ${last}`;
}
