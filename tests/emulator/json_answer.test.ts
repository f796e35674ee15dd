/** JSON that fits its schema, and says what the text says. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { jsonAnswer, type Schema, schemaFromPrompt } from "../../local/emulator/json_answer.ts";
import { NOON } from "./fixture.ts";

const EVENT: Schema = {
  type: "OBJECT",
  properties: {
    title: { type: "STRING" },
    date: { type: "STRING" },
    place: { type: "STRING" },
    price: { type: "STRING" },
  },
  required: ["title", "date", "place", "price"],
};

test.each([
  [
    "12 декабря в 20:00 в баре «Типография» пройдёт концерт группы «Медленный бульвар». Вход 800 ₽. Адрес: " +
    "ул. Железнодорожная, 7",
    ["Концерт группы «Медленный бульвар»", "12 декабря, 20:00", "Бар «Типография»", "800 ₽"],
  ],
  [
    "🎷 «Джаз на крыше» — 12 июля 2026 в 20:00, крыша отеля «Мечта», ул. Ленина, 5. Билеты от 1 200 до 2 500 рублей.",
    ["Джаз на крыше", "2026-07-12T20:00", "крыша отеля «Мечта»", "от 1 200 до 2 500 рублей"],
  ],
  [
    "Лекция об архитектуре Кёнигсберга\nКогда: 3 марта, 18:30\nГде: Областная научная библиотека\nВход свободный",
    [
      "Лекция об архитектуре Кёнигсберга",
      "3 марта, 18:30",
      "Областная научная библиотека",
      "бесплатно",
    ],
  ],
  [
    "15–17 августа 2027 года в Светлогорском театре эстрады «Янтарь-холл» состоится фестиваль «Балтийские сезоны». " +
    "Стоимость билетов: 1500–4000 руб.",
    [
      "Фестиваль «Балтийские сезоны»",
      "2027-08-15",
      "Светлогорский театр эстрады «Янтарь-холл»",
      "1500–4000 руб.",
    ],
  ],
  [
    "Дорогие друзья! 14 февраля в 19:00 в Доме офицеров (Калининград, ул. Кирова, 7) — большой концерт «Вечер романса». " +
    "Билеты от 600 рублей, пенсионерам скидка 20 %.",
    ["Концерт «Вечер романса»", "14 февраля, 19:00", "Дом офицеров", "от 600 рублей"],
  ],
  [
    "В Калининграде 7–9 мая 2027 пройдёт фестиваль уличной еды. Площадка: остров Канта. Вход свободный.",
    ["Фестиваль уличной еды", "2027-05-07", "остров Канта", "бесплатно"],
  ],
  [
    "Summer Night Concert, July 12, 2026 at 7:30 pm at the Old Town Hall. Tickets $25.",
    ["Summer Night Concert", "2026-07-12T19:30", "Old Town Hall", "$25"],
  ],
])("an announcement: %s", (text, [title, date, place, price]) => {
  const expected = { title, date, place, price };
  expect(jsonAnswer(EVENT, `Извлеки из анонса название, дату, место и цену.\n\n${text}`, NOON)).toEqual(
    expected,
  );
  // Without a schema, from the words of the prompt alone.
  for (
    const asked of [
      `Извлеки название, дату, место и цену и верни JSON.\n${text}`,
      `Return JSON with title, date, place and price:\n${text}`,
      `Ответь только JSON {"title": "...", "date": "...", "place": "...", "price": "..."}\n${text}`,
    ]
  ) {
    expect(jsonAnswer(schemaFromPrompt(asked), asked, NOON)).toEqual(expected);
  }
});

test("types, formats, enums and what may be missing", () => {
  const text = "12 декабря в 20:00 в баре «Типография» концерт «Шум». Вход 800 ₽, 16+";
  const answer = jsonAnswer(
    {
      type: "object",
      properties: {
        name: { type: "string" },
        day: { type: "string", format: "date" },
        starts_at: { type: "string", format: "date-time" },
        price: { type: "integer" },
        currency: { type: "string", enum: ["EUR", "RUB"] },
        url: { type: ["string", "null"] },
        phone: { type: "string" },
        is_free: { type: "boolean" },
        kind: { type: "string", enum: ["лекция", "концерт"] },
      },
      required: ["name", "day"],
    },
    text,
    NOON,
  );
  expect(answer).toMatchObject({
    name: "Концерт «Шум»",
    day: "2026-12-12",
    starts_at: "2026-12-12T20:00:00Z",
    price: 800,
    url: null,
    is_free: false,
    kind: "концерт",
  });
  expect(answer).not.toHaveProperty("phone");
});

test("a page of several events gives one item for each", () => {
  const page = "Афиша недели\n\n5 мая — Лекция о море, вход 200 ₽\n\n7 мая — Концерт хора\n\n9 мая — Салют";
  const item = { ...EVENT, required: ["title", "date"] };
  expect(jsonAnswer({ type: "ARRAY", items: item }, page, NOON)).toMatchObject([
    { title: "Лекция о море", date: "5 мая", price: "200 ₽" },
    { title: "Концерт хора", date: "7 мая" },
    { title: "Салют", date: "9 мая" },
  ]);
});

test("references, unions and merged schemas", () => {
  const schema: Schema = {
    type: "object",
    $defs: {
      node: {
        type: "object",
        properties: { name: { type: "string" }, next: { $ref: "#/$defs/node" } },
        required: ["name"],
      },
    },
    properties: {
      tree: { $ref: "#/$defs/node" },
      either: { anyOf: [{ type: "null" }, { type: "integer", minimum: 3, maximum: 3 }] },
      both: {
        allOf: [{ type: "object", properties: { a: { const: 1 } } }, { properties: { b: { const: 2 } } }],
      },
    },
    required: ["tree", "either", "both"],
  };
  const answer = jsonAnswer(schema, "hello there", NOON) as Record<string, unknown>;
  expect(answer).toMatchObject({ either: 3, both: { a: 1, b: 2 } });
  expect(JSON.stringify(answer).length).toBeLessThan(2_000);
});

const leaf = fc.oneof(
  fc.record({
    type: fc.constant("STRING"),
    minLength: fc.constantFrom(0, 5),
    maxLength: fc.constantFrom(5, 40),
  }),
  fc.record({
    type: fc.constantFrom("INTEGER", "NUMBER"),
    minimum: fc.integer({ min: -50, max: 0 }),
    maximum: fc.integer({ min: 1, max: 50 }),
  }),
  fc.record({ type: fc.constant("BOOLEAN") }),
  fc.record({ type: fc.constant("STRING"), enum: fc.constant(["a", "b", "c"]) }),
);
const { schema: anySchema } = fc.letrec<{ schema: Schema }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    leaf as fc.Arbitrary<Schema>,
    fc.record({
      type: fc.constant("ARRAY"),
      items: tie("schema"),
      minItems: fc.nat(2),
      maxItems: fc.integer({ min: 2, max: 4 }),
    }),
    fc.dictionary(fc.constantFrom("title", "date", "price", "x", "y"), tie("schema"), { minKeys: 1 }).map(
      (properties): Schema => ({ type: "OBJECT", properties, required: Object.keys(properties).slice(0, 2) }),
    ),
    fc.record({ anyOf: fc.tuple(tie("schema"), tie("schema")), nullable: fc.boolean() }),
  ),
}));

function fits(value: unknown, schema: Schema): boolean {
  if (value === null) return schema.nullable === true;
  if (schema.anyOf) return schema.anyOf.some((option) => fits(value, option));
  if (schema.enum) return schema.enum.includes(value as string);
  switch (schema.type) {
    case "STRING":
      return typeof value === "string" && value.length >= (schema.minLength ?? 0) &&
        value.length <= (schema.maxLength ?? Infinity);
    case "INTEGER":
    case "NUMBER":
      return typeof value === "number" && value >= schema.minimum! && value <= schema.maximum! &&
        (schema.type === "NUMBER" || Number.isInteger(value));
    case "BOOLEAN":
      return typeof value === "boolean";
    case "ARRAY":
      return Array.isArray(value) && value.length >= schema.minItems! && value.length <= schema.maxItems! &&
        value.every((item) => fits(item, schema.items!));
    default: {
      const object = value as Record<string, unknown>;
      return schema.required!.every((name) => name in object) &&
        Object.entries(object).every(([name, item]) => fits(item, schema.properties![name]!));
    }
  }
}

test("whatever the schema, the answer fits it, and again the same", () => {
  fc.assert(
    fc.property(anySchema, fc.string(), (schema, text) => {
      const answer = jsonAnswer(schema, text, NOON);
      expect(fits(answer, schema)).toBe(true);
      expect(jsonAnswer(schema, text, NOON)).toEqual(answer);
    }),
    { numRuns: 300, seed: 7 },
  );
});
