/**
 * Reads an announcement of an event (Russian or English) with simple rules: what, when, where, for how much.
 *
 * It stands in for a model's understanding, so that a demonstration's answer is about the text that was sent.
 */

import { findDate, findTime, iso } from "./date.ts";
import { CITY, findPlace, type FoundPlace, STREET, VENUE_NAMED, VENUE_WORD } from "./place.ts";
import { findPrice, type FoundPrice } from "./price.ts";
import { BEFORE, labelled, LABELS } from "./words.ts";

export interface Announcement extends FoundPrice {
  /** The announcement itself: the prompt without its instructions. */
  text: string;
  title?: string;
  /** The date as it is written, "12 июля 2026". */
  dateText?: string;
  /** `YYYY-MM-DD`; the year is the next one in which the day is still ahead when none is written. */
  dateIso?: string;
  endDateIso?: string;
  /** `HH:MM` */
  time?: string;
  place?: string;
  address?: string;
  city?: string;
  ageLimit?: string;
  url?: string;
  email?: string;
  phone?: string;
  description?: string;
}

/** What is read of a text, in characters: an announcement or a page of them, not a book. */
const MAX_TEXT = 40_000;

/** Sentences that tell the model what to do; they are not part of the announcement. */
const INSTRUCTION =
  /json|извлек|верни|вернуть|ответь|отвечай|выдели|определи|найди|extract|return|reply|respond|answer|schema|следующ(?:ие|его|ий) (?:пол|анонс|текст)|the following|из (?:этого |текста )?анонса|из текста|поля|fields|напиши|write|summari[sz]e|перескажи|переведи|translate/iu;

function announcementOf(prompt: string): string {
  const lines = prompt.split(/\r?\n/u);
  const kept = lines.map((line) => {
    if (!INSTRUCTION.test(line)) return line;
    const plain = line.replace(/\{[^{}]*\}/gu, "");
    // "Extract as JSON: the announcement" on one line: what follows the colon is the announcement.
    const [, before, after] = /^(.*?):\s+(.{25,})$/u.exec(plain) ?? [];
    if (after && INSTRUCTION.test(before!) && !/[.!?]\s/u.test(before!)) return after;
    const sentences = plain.match(/[^.!?]+(?:[.!?]+(?=\s|$)|[.!?]+(?=\S)|$)/gu) ?? [plain];
    return sentences.filter((sentence) => !INSTRUCTION.test(sentence)).join("").trim();
  });
  const text = kept.join("\n").trim();
  return text === "" ? prompt.trim() : text;
}

const MAX_TITLE = 90;

function clean(text: string): string {
  return text
    .replace(/[\p{Extended_Pictographic}\u{FE0F}\u{200D}]/gu, "")
    .replace(/(?:^|\s)#[\p{L}\p{N}_]+/gu, " ")
    .replace(/[*_`]+/gu, "")
    .replace(/\s+/gu, " ")
    .replace(/^[\s\p{P}]+(?=\p{L}|\p{N}|[«"“])/u, (found) => /[«"“(]$/u.test(found) ? found.slice(-1) : "")
    .trim();
}

const EVENT_NOUN =
  "концерт|лекция|фестиваль|спектакль|выставка|мастер-класс|экскурсия|вечеринка|кинопоказ|показ|встреча|ярмарка|" +
  "конференция|турнир|квартирник|опера|балет|бал";
/** What kind of event a quoted name is the name of: "концерт группы «Бульвар»". */
const KIND_BEFORE = new RegExp(`${BEFORE}((?:${EVENT_NOUN})(?:\\s+\\p{Ll}+){0,2})\\s*$`, "iu");

/** The same without a name: "фестиваль уличной еды". */
const KIND_IN_WORDS = new RegExp(
  `${BEFORE}(?:${EVENT_NOUN})(?:\\s+[\\p{Ll}-]+){0,4}(?=\\s*(?:[,.!?;:(—–\\n]|$))`,
  "iu",
);
/** A sentence that begins like this says when or where before it says what. */
const BEGINS_ELSEWHERE = /^(?:в|во|на|с|со|по)\s/iu;

function findTitle(text: string, place: FoundPlace | undefined): string | undefined {
  const named = labelled(text, LABELS.title);
  if (named) return clean(named);
  for (const match of text.matchAll(/[«“"]([^»”"\n]{3,120})[»”"]/gu)) {
    if (place?.source.includes(match[0])) continue;
    const before = text.slice(0, match.index);
    const kind = KIND_BEFORE.exec(before.slice(before.lastIndexOf("\n") + 1))?.[1];
    if (kind) return `${kind.charAt(0).toUpperCase()}${kind.slice(1)} «${match[1]!.trim()}»`;
    const venue = new RegExp(`(?:${VENUE_WORD}|${VENUE_NAMED})\\p{L}{0,2}\\s*$`, "iu");
    if (!venue.test(before)) return match[1]!.trim();
  }
  const kind = KIND_IN_WORDS.exec(text)?.[0].trim();
  const withoutPlace = place ? text.replace(place.source, "") : text;
  for (const line of withoutPlace.split(/\n/u)) {
    const first = clean(line).split(/(?<=[.!?])\s+/u)[0] ?? "";
    const date = findDate(first);
    // "12 июля в 20:00 — концерт" begins with its date; "Концерт, 12 июля" ends with it.
    const withoutDate = date && date.at > 3
      ? first.slice(0, date.at)
      : date
      ? first.slice(date.at + date.text.length)
      : first;
    const title = clean(
      withoutDate
        .replace(/^\s*(?:,?\s*(?:в|at)\s+\d{1,2}[:.]\d{2}|\d{1,2}[:.]\d{2})/iu, "")
        .replace(/^\s*[—–-]\s*/u, "")
        .replace(/[,.;—–-]\s*(?:вход|билет|цена|стоимость|ticket|admission|entry).*$/iu, "")
        .replace(/^приглаша(?:ем|ю)\s+(?:вас\s+|всех\s+)?на\s+/iu, "")
        .replace(/[.!?,:;—–-]+\s*$/u, "")
        .replace(/\s(?:в|на|on|at)$/iu, ""),
    );
    if (kind && BEGINS_ELSEWHERE.test(title)) return kind.charAt(0).toUpperCase() + kind.slice(1);
    if (/\p{L}{3}/u.test(title)) {
      return title.length <= MAX_TITLE ? title : `${title.slice(0, MAX_TITLE).replace(/\s\S*$/u, "")}…`;
    }
  }
  return undefined;
}

function firstSentences(text: string, count: number): string {
  const sentences = clean(text).match(/[^.!?]+[.!?]*/gu) ?? [];
  return sentences.slice(0, count).map((sentence) => sentence.trim()).join(" ");
}

/**
 * @param prompt the whole prompt, with or without instructions around the announcement.
 * @param now milliseconds since the epoch, for dates without a year.
 */
export function readAnnouncement(prompt: string, now: number): Announcement {
  const text = announcementOf(prompt.slice(0, MAX_TEXT));
  const place = findPlace(text);
  const found: Announcement = {
    text,
    title: findTitle(text, place),
    place: place?.name,
    ...findPrice(text),
  };
  const date = findDate(labelled(text, LABELS.date) ?? "") ?? findDate(text);
  if (date) {
    const today = new Date(now).toISOString().slice(0, 10);
    const thisYear = new Date(now).getUTCFullYear();
    const year = date.year ??
      (iso(thisYear, date.month, date.endDay ?? date.day) >= today ? thisYear : thisYear + 1);
    found.dateText = date.text.trim();
    found.dateIso = iso(year, date.month, date.day);
    if (date.endDay !== undefined) found.endDateIso = iso(year, date.month, date.endDay);
  }
  found.time = findTime(text);
  found.address = labelled(text, LABELS.address) ?? STREET.exec(text)?.[0].trim();
  found.city = CITY.exec(text)?.[1];
  found.ageLimit = /(?<!\d)(\d{1,2}\+)/u.exec(text)?.[1];
  found.url = /https?:\/\/[^\s)»"']+/u.exec(text)?.[0].replace(/[.,;]+$/u, "");
  found.email = /[\w.+-]+@[\w-]+\.[\w.-]*\w/u.exec(text)?.[0];
  found.phone = /\+?\d[\d\s()-]{8,20}\d/u.exec(text)?.[0];
  found.description = firstSentences(text, 2) || undefined;
  return found;
}
