/**
 * What an event costs, as people write it in Russian and English.
 */

const CURRENCIES: [RegExp, string][] = [
  [/₽|руб|(?<!\p{L})р\.|rub/iu, "RUB"],
  [/€|eur|евро/iu, "EUR"],
  [/\$|usd|долл/iu, "USD"],
  [/£|gbp/iu, "GBP"],
];

const AMOUNT = "\\d{1,3}(?:[ \\u00a0\\u202f]\\d{3})+|\\d+";
const UNIT = "₽|рублей|рубля|руб\\.?|р\\.|евро|€|\\$|£|долларов|RUB|EUR|USD";
const PRICE = new RegExp(
  `(?:(?:от|from)\\s+)?(?:[€$£]\\s?(?:${AMOUNT})|(?:${AMOUNT})(?:\\s*(?:${UNIT}))?(?:\\s*(?:[-–—]|до|to)\\s*(?:${AMOUNT}))?\\s*(?:${UNIT}))`,
  "iu",
);
const FREE =
  /бесплатно|бесплатный вход|вход (?:свободный|бесплатный)|свободный вход|free (?:entry|admission|of charge)|admission (?:is )?free|entry (?:is )?free/iu;

export interface FoundPrice {
  /** As it is written, "от 500 ₽". */
  priceText?: string;
  /** Lowest and highest; 0 is free. */
  price?: number;
  priceMax?: number;
  currency?: string;
}

export function findPrice(text: string): FoundPrice {
  const found = PRICE.exec(text)?.[0].trim();
  if (found !== undefined) {
    const numbers = (found.match(new RegExp(AMOUNT, "gu")) ?? []).map((amount) =>
      Number(amount.replace(/\s/gu, ""))
    );
    const currency = CURRENCIES.find(([sign]) => sign.test(found))?.[1];
    return { priceText: found, price: numbers[0], priceMax: numbers.at(-1), currency };
  }
  const free = FREE.exec(text)?.[0];
  if (free === undefined) return {};
  return { priceText: /\p{Script=Cyrillic}/u.test(free) ? "бесплатно" : "free", price: 0, priceMax: 0 };
}
