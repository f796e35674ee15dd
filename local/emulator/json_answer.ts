/**
 * A JSON value that fits a schema (Google's OpenAPI subset, or JSON Schema), filled from the prompt where the field's
 * name says what it is for. Nothing is random: the same prompt and schema give the same value.
 */

import { hasDate } from "./announcement/date.ts";
import { type Announcement, readAnnouncement } from "./announcement/read.ts";
import { pick } from "./fingerprint.ts";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** The union of both dialects; types are compared in lower case. */
export interface Schema {
  type?: string | string[];
  format?: string;
  title?: string;
  description?: string;
  nullable?: boolean;
  enum?: Json[];
  const?: Json;
  default?: Json;
  example?: Json;
  items?: Schema;
  prefixItems?: Schema[];
  minItems?: number;
  maxItems?: number;
  properties?: Record<string, Schema>;
  required?: string[];
  propertyOrdering?: string[];
  anyOf?: Schema[];
  oneOf?: Schema[];
  allOf?: Schema[];
  $ref?: string;
  $defs?: Record<string, Schema>;
  definitions?: Record<string, Schema>;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  minLength?: number;
  maxLength?: number;
}

/** A schema may refer to itself; below this depth only what is required is filled in. */
const MAX_DEPTH = 6;
/** A list of things that the prompt does not number has this many, when the schema leaves it open. */
const DEFAULT_ITEMS = 2;
const MAX_EVENTS = 20;

/** What a field is about, by words in its name (or, failing that, in its description). The first that fits counts. */
const MEANINGS: [Meaning, RegExp][] = [
  ["endDate", /^(?:date_?(?:end|to)|end_?date|ends?_?(?:at|on)?|finish|until|дата_?окончания|конец)/iu],
  ["address", /address|адрес|street|улица/iu],
  ["city", /city|town|город/iu],
  ["currency", /currenc|валют/iu],
  ["priceMax", /(?:price|cost).*max|max.*(?:price|cost)|price_?to|макс.*цен/iu],
  ["price", /price|cost|fee|ticket|admission|цена|цену|стоимост|билет|оплат/iu],
  ["isFree", /is_?free|^free$|бесплатн/iu],
  ["time", /time(?!zone|stamp)|время|час(?:ы|ов)?$/iu],
  ["date", /date|when|day|start|дат[аыу]|когда|день|timestamp/iu],
  ["place", /place|location|venue|where|место|места|площадк|локаци|^где/iu],
  ["url", /url|link|website|site|href|ссылк|сайт/iu],
  ["email", /e?mail|почт/iu],
  ["phone", /phone|tel|телефон/iu],
  ["ageLimit", /age|возраст/iu],
  ["description", /descr|summary|about|text|content|описани|аннотац|кратк|содержани/iu],
  ["title", /title|name|headline|event|subject|topic|назван|заголов|событи|мероприят|имя|тема/iu],
];

type Meaning =
  | keyof Pick<
    Announcement,
    | "title"
    | "time"
    | "place"
    | "address"
    | "city"
    | "price"
    | "priceMax"
    | "currency"
    | "url"
    | "email"
    | "phone"
    | "ageLimit"
    | "description"
  >
  | "date"
  | "endDate"
  | "isFree";

function meaningOf(name: string, schema: Schema): Meaning | undefined {
  const fits = (text: string) => MEANINGS.find(([, words]) => words.test(text))?.[0];
  return fits(name) ?? fits(schema.title ?? "") ?? fits(schema.description ?? "");
}

interface Source {
  prompt: string;
  announcement: Announcement;
  now: number;
  root: Schema;
}

/**
 * @param schema what the answer must fit.
 * @param prompt everything the user said.
 * @param now milliseconds since the epoch, for dates without a year.
 */
export function jsonAnswer(schema: Schema, prompt: string, now: number): Json {
  const source: Source = { prompt, announcement: readAnnouncement(prompt, now), now, root: schema };
  return fill(schema, "", source, 0);
}

function typeOf(schema: Schema): string {
  const types = (Array.isArray(schema.type) ? schema.type : [schema.type ?? ""]).map((type) =>
    type.toLowerCase()
  );
  const known = types.find((type) => type !== "null" && type !== "" && type !== "type_unspecified");
  if (known) return known;
  if (schema.properties) return "object";
  if (schema.items || schema.prefixItems) return "array";
  return types.includes("null") ? "null" : "string";
}

function mayBeNull(schema: Schema): boolean {
  if (schema.nullable || schema.enum?.includes(null)) return true;
  if (Array.isArray(schema.type) && schema.type.some((type) => type.toLowerCase() === "null")) return true;
  return (schema.anyOf ?? schema.oneOf ?? []).some((option) => typeOf(option) === "null");
}

/** Follows `$ref`, merges `allOf`, and takes the first option of `anyOf` that is not null. */
function resolved(schema: Schema, source: Source): Schema {
  let current = schema;
  for (let hops = 0; hops < MAX_DEPTH; hops++) {
    if (current.$ref?.startsWith("#")) {
      let target: unknown = source.root;
      for (const step of current.$ref.slice(1).split("/").filter(Boolean)) {
        target = (target as Record<string, unknown> | undefined)?.[decodeURIComponent(step)];
      }
      current = (target as Schema | undefined) ?? {};
    } else if (current.allOf?.length) {
      const { allOf, ...rest } = current;
      current = allOf.reduce<Schema>((merged, part) => {
        const whole = resolved(part, source);
        return {
          ...merged,
          ...whole,
          properties: { ...merged.properties, ...whole.properties },
          required: [...(merged.required ?? []), ...(whole.required ?? [])],
        };
      }, rest);
      if (Object.keys(current.properties ?? {}).length === 0) delete current.properties;
    } else if (current.anyOf?.length || current.oneOf?.length) {
      const options = current.anyOf ?? current.oneOf!;
      const { anyOf: _a, oneOf: _o, ...rest } = current;
      current = { ...rest, ...(options.find((option) => typeOf(option) !== "null") ?? options[0]!) };
      if (mayBeNull(schema)) current = { ...current, nullable: true };
    } else {
      return current;
    }
  }
  return current;
}

function fill(given: Schema, name: string, source: Source, depth: number): Json {
  const schema = resolved(given, source);
  if (schema.const !== undefined) return schema.const;
  if (schema.enum?.length) return fromEnum(schema.enum, name, source);
  switch (typeOf(schema)) {
    case "null":
      return null;
    case "object":
      return object(schema, source, depth);
    case "array":
      return array(schema, name, source, depth);
    case "number":
    case "integer":
      return number(schema, name, source);
    case "boolean":
      return boolean(schema, name, source);
    default:
      return string(schema, name, source);
  }
}

/** The option that the prompt mentions, or else one that the prompt's hash points at. */
function fromEnum(options: Json[], name: string, source: Source): Json {
  const lower = source.prompt.toLowerCase();
  const mentioned = options.find((option) =>
    typeof option === "string" && lower.includes(option.toLowerCase())
  );
  if (mentioned !== undefined) return mentioned;
  const choice = options.filter((option) => option !== null);
  return choice[pick(`${name}\n${source.prompt}`, choice.length)] ?? null;
}

function object(schema: Schema, source: Source, depth: number): Json {
  const properties = schema.properties ?? {};
  const order = schema.propertyOrdering?.filter((name) => name in properties) ?? [];
  const names = [...order, ...Object.keys(properties).filter((name) => !order.includes(name))];
  const filled: Record<string, Json> = {};
  for (const name of names) {
    const required = schema.required?.includes(name) ?? false;
    if (depth >= MAX_DEPTH && !required) continue;
    const property = properties[name]!;
    if (!required && isUnknown(property, name, source)) {
      if (mayBeNull(property)) filled[name] = null;
      else if (schema.required === undefined) filled[name] = fill(property, name, source, depth + 1);
      continue;
    }
    filled[name] = fill(property, name, source, depth + 1);
  }
  return filled;
}

/** Whether the field asks for something the announcement does not say. */
function isUnknown(given: Schema, name: string, source: Source): boolean {
  const schema = resolved(given, source);
  if (schema.enum || !["string", "number", "integer"].includes(typeOf(schema))) return false;
  const meaning = meaningOf(name, schema);
  return meaning !== undefined && known(meaning, source) === undefined;
}

function array(schema: Schema, name: string, source: Source, depth: number): Json {
  if (schema.prefixItems?.length) {
    return schema.prefixItems.map((item) => fill(item, name, source, depth + 1));
  }
  const item = schema.items ?? { type: "string" };
  const least = schema.minItems ?? 0;
  const most = schema.maxItems ?? Infinity;
  if (depth >= MAX_DEPTH && least === 0) return [];
  const whole = resolved(item, source);
  if (typeOf(whole) === "object") {
    // A page of several events gives one item for each.
    const events = eventsIn(source.announcement.text);
    const texts = events.length > 1 ? events.slice(0, Math.min(most, MAX_EVENTS)) : [source.prompt];
    const items = texts.map((text) =>
      fill(
        item,
        name,
        { ...source, prompt: text, announcement: readAnnouncement(text, source.now) },
        depth + 1,
      )
    );
    while (items.length < least) items.push(items[items.length - 1]!);
    return items.slice(0, most);
  }
  const count = Math.min(most, Math.max(least, DEFAULT_ITEMS));
  if (typeOf(whole) === "string" && !whole.enum) {
    const words = keywords(source.announcement.text, count);
    return Array.from({ length: count }, (_, i) => bounded(words[i] ?? `${name || "item"} ${i + 1}`, whole));
  }
  if (whole.enum) {
    const start = pick(source.prompt, whole.enum.length);
    const options = whole.enum;
    return Array.from(
      { length: Math.min(count, Math.max(least, options.length)) },
      (_, i) => options[(start + i) % options.length]!,
    );
  }
  return Array.from(
    { length: count },
    (_, i) => fill(item, name, { ...source, prompt: `${source.prompt}\n${i}` }, depth + 1),
  );
}

/** The pieces of a text that each have a date: paragraphs, or else lines. */
function eventsIn(text: string): string[] {
  for (const border of [/\n\s*\n/u, /\n/u]) {
    const pieces = text.split(border).map((piece) => piece.trim()).filter((piece) => hasDate(piece));
    if (pieces.length > 1) return pieces;
  }
  return [];
}

/** The longest words of a text, each once, in their order. */
function keywords(text: string, count: number): string[] {
  const words = [...new Set((text.match(/\p{L}{4,}/gu) ?? []).map((word) => word.toLowerCase()))];
  const chosen = [...words].sort((a, b) => b.length - a.length || (a < b ? -1 : 1)).slice(0, count);
  return words.filter((word) => chosen.includes(word));
}

function known(meaning: Meaning, { announcement }: Source): string | number | boolean | undefined {
  switch (meaning) {
    case "date":
      return announcement.dateIso;
    case "endDate":
      return announcement.endDateIso;
    case "isFree":
      return announcement.price === undefined ? undefined : announcement.price === 0;
    default:
      return announcement[meaning];
  }
}

function number(schema: Schema, name: string, source: Source): number {
  const whole = typeOf(schema) === "integer";
  const low = schema.minimum ??
    (schema.exclusiveMinimum !== undefined ? schema.exclusiveMinimum + (whole ? 1 : 1e-6) : undefined);
  const high = schema.maximum ??
    (schema.exclusiveMaximum !== undefined ? schema.exclusiveMaximum - (whole ? 1 : 1e-6) : undefined);
  const meaning = meaningOf(name, schema);
  let value: number | undefined;
  if (meaning === "price" || meaning === "priceMax") value = source.announcement[meaning];
  if (meaning === "ageLimit") value = parseInt(source.announcement.ageLimit ?? "", 10);
  if (value === undefined || Number.isNaN(value)) {
    const from = low ?? 0;
    const span = Math.max(0, Math.min(high ?? from + 100, from + 100) - from);
    const seed = `${name}\n${source.prompt}`;
    // Confidence, score and the like are shares of one, unless the schema says otherwise.
    value = !whole && low === undefined && high === undefined && /score|confidence|probab|rate/iu.test(name)
      ? pick(seed, 101) / 100
      : from + pick(seed, Math.floor(span) + 1);
  }
  if (whole) value = Math.round(value);
  if (low !== undefined) value = Math.max(low, value);
  if (high !== undefined) value = Math.min(high, value);
  return value;
}

function boolean(schema: Schema, name: string, source: Source): boolean {
  const meaning = meaningOf(name, schema);
  if (meaning === "isFree" || meaning === "price") return source.announcement.price === 0;
  return pick(`${name}\n${source.prompt}`, 2) === 1;
}

function string(schema: Schema, name: string, source: Source): string {
  return bounded(stringFor(schema, name, source), schema);
}

function bounded(text: string, { minLength: least = 0, maxLength: most = Infinity }: Schema): string {
  const long = text.length < least ? text.padEnd(least, ".") : text;
  return long.length > most ? long.slice(0, most) : long;
}

function stringFor(schema: Schema, name: string, source: Source): string {
  const { announcement } = source;
  const today = new Date(source.now).toISOString().slice(0, 10);
  switch (schema.format) {
    case "date":
      return (meaningOf(name, schema) === "endDate" ? announcement.endDateIso : undefined) ??
        announcement.dateIso ?? today;
    case "date-time":
      return `${announcement.dateIso ?? today}T${announcement.time ?? "00:00"}:00Z`;
    case "time":
      return `${announcement.time ?? "00:00"}:00`;
    case "uri":
    case "url":
      return announcement.url ?? "https://example.com/";
    case "email":
      return announcement.email ?? "info@example.com";
    case "uuid":
      return "00000000-0000-4000-8000-" + String(pick(source.prompt, 1_000_000)).padStart(12, "0");
  }
  const meaning = meaningOf(name, schema);
  if (meaning === "date" && announcement.dateIso !== undefined) return writtenDate(schema, announcement);
  if (meaning === "price" && announcement.priceText !== undefined) return announcement.priceText;
  if (meaning !== undefined) {
    const value = known(meaning, source);
    if (value !== undefined) return String(value);
  }
  if (schema.default !== undefined) return String(schema.default);
  if (schema.example !== undefined) return String(schema.example);
  if (meaning !== undefined && meaning !== "title" && meaning !== "description") return "";
  return announcement.title ?? (announcement.text.slice(0, 60).trim() || name || "text");
}

/** ISO where the schema asks for it or the year is written; otherwise the text's own words, with the time. */
function writtenDate(schema: Schema, announcement: Announcement): string {
  const wantsIso = /iso|yyyy|гггг|8601/iu.test(schema.description ?? "");
  const hasYear = /\d{4}/u.test(announcement.dateText!);
  const time = announcement.time;
  if (wantsIso && /hh|чч|time/iu.test(schema.description!)) {
    return `${announcement.dateIso}T${time ?? "00:00"}`;
  }
  if (wantsIso) return announcement.dateIso!;
  if (hasYear) return announcement.dateIso + (time ? `T${time}` : "");
  return announcement.dateText! + (time ? `, ${time}` : "");
}

/** Russian words for the fields people ask for, in the cases they ask in. */
const ASKED_FIELDS: [RegExp, string][] = [
  [/назван\p{Ll}*|заголов\p{Ll}*/iu, "title"],
  [/дат[аыуе]/iu, "date"],
  [/время/iu, "time"],
  [/мест[оауе]/iu, "place"],
  [/адрес/iu, "address"],
  [/цен[аыуе]|стоимост\p{Ll}*/iu, "price"],
  [/описани[еяю]/iu, "description"],
];

/**
 * The schema that a prompt describes in words: a template in braces, a list of names after "fields", or Russian nouns.
 * An event announcement that is asked for as JSON gets title, date, place and price.
 */
export function schemaFromPrompt(prompt: string): Schema {
  const names = namesInTemplate(prompt) ?? namesInList(prompt) ?? namesInWords(prompt) ??
    (hasDate(prompt) ? ["title", "date", "place", "price"] : undefined);
  if (!names) return { type: "object", properties: { answer: { type: "string" } }, required: ["answer"] };
  const properties = Object.fromEntries(names.map((name): [string, Schema] => [name, { type: "string" }]));
  return { type: "object", properties, required: names };
}

function namesInTemplate(prompt: string): string[] | undefined {
  const template = /\{[^{}]*\}/u.exec(prompt)?.[0];
  const names = [...(template ?? "").matchAll(/["']?([\p{L}_][\p{L}\p{N}_]*)["']?\s*(?:[:,}]|$)/gu)]
    .map((match) => match[1]!)
    .filter((name) => !["string", "number", "null", "true", "false", "строка", "число"].includes(name));
  return names.length > 0 ? [...new Set(names)] : undefined;
}

function namesInList(prompt: string): string[] | undefined {
  const list =
    /(?:keys?|fields?|properties|пол(?:я|ями|ей)|ключ(?:и|ами|ей)|with|as json)\s*[:—-]?\s*((?:["'`]?[a-z_]\w*["'`]?(?:\s*,\s*|\s+(?:and|и)\s+|,\s*(?:and|и)\s+)?){2,})/iu
      .exec(prompt)?.[1];
  const names = (list ?? "").split(/[\s,"'`]+/u).filter((name) =>
    /^[a-z_]\w*$/iu.test(name) && name !== "and"
  );
  return names.length >= 2 && /,|\sand\s|\sи\s/u.test(list!) ? [...new Set(names)] : undefined;
}

function namesInWords(prompt: string): string[] | undefined {
  const sentence = prompt.match(/[^.!?\n]+/gu)?.find((part) => /json/iu.test(part)) ?? "";
  const found = ASKED_FIELDS
    .map(([word, name]) => ({ name, at: sentence.search(word) }))
    .filter(({ at }) => at >= 0)
    .sort((a, b) => a.at - b.at);
  return found.length >= 2 ? found.map(({ name }) => name) : undefined;
}
