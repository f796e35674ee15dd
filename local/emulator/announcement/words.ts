/**
 * Word borders that know Cyrillic, which `\b` does not; and lines that begin with a label.
 */

export const BEFORE = "(?<![\\p{L}\\p{N}])";
export const AFTER = "(?![\\p{L}\\p{N}])";

export const LABELS = {
  title: /(?:название|событие|мероприятие|что|title|event|what)/iu,
  date: /(?:дата|когда|date|when)/iu,
  place: /(?:место(?: проведения)?|где|площадка|venue|place|where|location)/iu,
  address: /(?:адрес|address)/iu,
  price: /(?:цена|стоимость|билеты?|вход|price|tickets?|cost|admission)/iu,
};

/** What stands after "Место:" at the start of a line or a sentence, up to its end. */
export function labelled(text: string, label: RegExp): string | undefined {
  const found = new RegExp(
    `(?:(?:^|\\n)[^\\p{L}\\n]*${label.source}\\s*[:—–-]|[.!?]\\s+${label.source}:)\\s*([^\\n{}\\[\\]]+)`,
    "iu",
  ).exec(text)?.[1];
  // A full stop ends it after a word or a number, not after an abbreviation such as "ул.".
  const value = found?.split(/(?<=\p{L}{4}|\d|[»)])[.!?](?:\s|$)/u)[0]?.trim().replace(/[.;,]+$/u, "");
  return value ? value : undefined;
}
