/**
 * Where an event is: a labelled line, a venue with its name, a street, or a name in English.
 *
 * Russian venues stand in the prepositional case ("в Светлогорском театре"); they are put back into the nominative.
 */

import { EN_MONTH } from "./date.ts";
import { AFTER, BEFORE, labelled, LABELS } from "./words.ts";

/** Venue nouns: after "в" or "на" (prepositional case), and as one names them. */
const VENUES: Record<string, string> = {
  клубе: "клуб",
  кафе: "кафе",
  баре: "бар",
  ресторане: "ресторан",
  театре: "театр",
  музее: "музей",
  парке: "парк",
  саду: "сад",
  доме: "дом",
  дворце: "дворец",
  центре: "центр",
  зале: "зал",
  замке: "замок",
  соборе: "собор",
  отеле: "отель",
  пабе: "паб",
  кинотеатре: "кинотеатр",
  пространстве: "пространство",
  коворкинге: "коворкинг",
  лофте: "лофт",
  стадионе: "стадион",
  галерее: "галерея",
  библиотеке: "библиотека",
  филармонии: "филармония",
  студии: "студия",
  школе: "школа",
  площади: "площадь",
  набережной: "набережная",
  крыше: "крыша",
  церкви: "церковь",
  кирхе: "кирха",
  усадьбе: "усадьба",
};

/** Endings of an adjective before the noun, by the gender of the noun it is with. */
const MASCULINE: [RegExp, string][] = [[/ком$/u, "кий"], [/ом$/u, "ый"], [/ем$/u, "ий"]];
const FEMININE: [RegExp, string][] = [[/ой$/u, "ая"], [/ей$/u, "яя"]];
const FEMININE_NOUNS = [
  "галерея",
  "библиотека",
  "филармония",
  "студия",
  "школа",
  "площадь",
  "набережная",
  "крыша",
  "церковь",
  "кирха",
  "усадьба",
];

export const VENUE_WORD = Object.keys(VENUES)
  .flatMap((noun) => [noun, noun.charAt(0).toUpperCase() + noun.slice(1)])
  .join("|");
export const VENUE_NAMED = Object.values(VENUES).join("|");
/** A name in quotes, with at most one word in the genitive before it: "театре эстрады «Янтарь-холл»". */
const OWN_NAME = '(?:(?:\\s+\\p{Ll}+(?:ы|и|а|я|ов|ей)(?<!ся))?\\s*[«"“][^»"”\\n]+[»"”])';
/** What may follow a venue without quotes: "имени Чехова", "Ратсхоф", or a genitive up to the next comma or bracket. */
const BELONGS_TO = "(?:\\s+(?:имени|им\\.)(?:\\s+\\p{Lu}[\\p{L}.-]*){1,6}" +
  "|(?:\\s+\\p{Ll}{3,}(?:ов|ев|ей|ий|ой|ого|его|ых|их|ы|и|а|я)(?<!ся)){1,3}(?=\\s*(?:[,.;:(—–\\n]|$))" +
  "|(?:\\s+\\p{Lu}[\\p{L}.-]*){1,6})";
const PLACE_IN_TEXT = new RegExp(
  `${BEFORE}(?:[Вв]о?|[Нн]а)\\s+((?:\\p{L}[\\p{L}-]*\\s+){0,2})((?:\\p{Ll}+-)?)(${VENUE_WORD})${AFTER}` +
    `(${BELONGS_TO}?${OWN_NAME}?)`,
  "u",
);
const PLACE_NEARBY = new RegExp(
  `${BEFORE}(?:у|возле|около|напротив)\\s+\\p{Ll}+\\s*[«"“][^»"”\\n]+[»"”]`,
  "iu",
);
const PLACE_BY_ADJECTIVE = new RegExp(
  `${BEFORE}\\p{Lu}\\p{Ll}+(?:ая|яя|ий|ый|ой)\\s+(?:\\p{Ll}+(?:ая|ий|ый)\\s+)?(?:${VENUE_NAMED})${AFTER}`,
  "u",
);
const PLACE_AS_NAMED = new RegExp(
  `${BEFORE}((?:\\p{Ll}+-)?(?:${VENUE_NAMED})${AFTER}(?:\\s+\\p{Lu}[\\p{L}.-]*){0,6}${OWN_NAME})`,
  "iu",
);
const PLACE_IN_ENGLISH =
  /(?<!\p{L})(?:at|in)\s+(the\s+)?((?:[\p{Lu}][\p{L}’'-]*|of|the|and|&)(?:\s+(?:[\p{Lu}][\p{L}’'-]*|of|the|and|&))*)/u;
export const STREET =
  /(?:ул(?:\.|ица)|пр(?:-т|оспект|\.)|пл(?:\.|ощадь)|наб(?:\.|ережная)|пер(?:\.|еулок)|бульвар|б-р|шоссе)\s*[\p{L}\d. -]+?(?:,\s*(?:д(?:\.|ом)\s*)?\d+(?:[/-]\d+)?\p{L}?)?(?=[.,;)\n]|\s—|$)|\d+\s+[\p{Lu}][\p{L}]+\s+(?:Street|St|Avenue|Ave|Road|Rd|Square)/u;
export const CITY =
  /(?:г(?:\.|ород)\s*|(?:^|[.,\n]\s*)(?=(?:Калининград|Москва|Санкт-Петербург)(?!\p{L})))(\p{Lu}[\p{L}-]+)/u;

/** Hides what stands in quotes, letter by letter, so that a title's own words are not taken for a place. */
function withQuotesHidden(text: string): string {
  return text.replace(
    /([«"“])([^»"”\n]{1,120})([»"”])/gu,
    (_, open: string, inside: string, close: string) => open + "◦".repeat(inside.length) + close,
  );
}

export interface FoundPlace {
  name: string;
  /** The words of the text that it was taken from. */
  source: string;
}

export function findPlace(text: string): FoundPlace | undefined {
  const named = labelled(text, LABELS.place);
  if (named) return { name: named, source: named };
  const hidden = withQuotesHidden(text);
  const found = PLACE_IN_TEXT.exec(hidden);
  if (found) {
    const source = text.slice(found.index, found.index + found[0].length);
    const noun = VENUES[found[3]!.toLowerCase()]!;
    const endings = FEMININE_NOUNS.includes(noun) ? FEMININE : MASCULINE;
    const adjectives = found[1]!.trim().split(/\s+/u).filter(Boolean).map((word) => {
      const ending = endings.find(([oblique]) => oblique.test(word));
      return ending ? word.replace(ending[0], ending[1]) : word;
    });
    const name = [...adjectives, found[2]! + noun].join(" ") +
      source.slice(source.length - found[4]!.length).trimEnd();
    return { name: name.charAt(0).toUpperCase() + name.slice(1), source };
  }
  const plain = PLACE_AS_NAMED.exec(hidden);
  if (plain) {
    const source = text.slice(plain.index, plain.index + plain[0].length);
    return { name: source, source };
  }
  const nearby = PLACE_NEARBY.exec(hidden);
  if (nearby) {
    const source = text.slice(nearby.index, nearby.index + nearby[0].length);
    return { name: source, source };
  }
  const adjective = PLACE_BY_ADJECTIVE.exec(hidden)?.[0];
  if (adjective) return { name: adjective, source: adjective };
  const street = STREET.exec(text)?.[0].trim();
  if (street) return { name: street, source: street };
  for (const match of text.matchAll(new RegExp(PLACE_IN_ENGLISH.source, "gu"))) {
    const name = match[2]!.trim();
    if (!new RegExp(`^(?:${EN_MONTH})${AFTER}`, "iu").test(name)) return { name, source: match[0] };
  }
  return undefined;
}
