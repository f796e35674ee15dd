/** The real tesseract, as `npm run worker` runs it: how well it reads, and what bounds it. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Browser } from "playwright-core";
import { findTesseract } from "../../cli/tesseract.ts";
import { tesseractAnalyst } from "../../shared/vision/analysts/tesseract.ts";
import { chromiumPath, openBrowser } from "../console/browser.ts";
import { HAS_TESSERACT } from "../harness/tesseract.ts";
import { characterErrorRate } from "../harness/character_errors.ts";
import { requestFor } from "../unit/vision/vision_fixture.ts";

const PAGES: Record<string, string[]> = {
  Russian: [
    "Городской фестиваль уличной музыки пройдёт в субботу, 14 июня 2025 года, в парке имени Горького.",
    "Начало в 12:00, вход свободный. На трёх сценах выступят более сорока коллективов из Москвы, Казани и Екатеринбурга; закроет программу джазовый оркестр под управлением Анны Щербаковой.",
    "Для детей будут работать мастерские: лепка из глины, рисование акварелью, сборка воздушных змеев. Билеты на вечерний концерт стоят от 800 до 2 500 рублей, льготные — 450 рублей.",
    "Если пойдёт дождь, выступления перенесут в павильон № 7. Справки по телефону: +7 (495) 123-45-67. Организаторы просят не приносить стеклянную посуду и не забывать документы.",
    "Объявление подготовил отдел культуры: улица Большая Якиманка, дом 24, этаж 3, кабинет 318.",
  ],
  English: [
    "The annual city festival of street music takes place on Saturday, 14 June 2025, in the Botanical Garden.",
    "Gates open at 12:00 and admission is free. More than forty bands from Bristol, Leeds and Edinburgh will play on three stages; a jazz orchestra conducted by Joanna Quayle closes the programme.",
    "There are workshops for children: pottery, watercolour painting and kite making. Tickets for the evening concert cost between 18.50 and 42 pounds, with a reduced price of 9 pounds.",
    "If it rains, the performances move to Pavilion 7. For questions call +44 20 7946 0958. Visitors are asked not to bring glass bottles and to keep their tickets until the end.",
    "This notice was prepared by the Department of Culture, 24 Jubilee Walk, third floor, room 318.",
  ],
};

/** A page of A4 in points of print, as a scanner at 150 dpi sees it: 11 pt are 23 pixels. */
const DPI = 150;
const pt = (points: number) => `${points * DPI / 72}px`;
const htmlOf = (paragraphs: readonly string[], style: string) =>
  `<meta charset="utf-8"><body style="margin:${pt(50)};background:#fff;color:#111;font:${
    pt(11)
  }/1.4 ${style}">` +
  paragraphs.map((text) => `<p>${text}</p>`).join("");

/** How a page looks, and as what it is stored. */
const LOOKS: Record<string, { style: string; as: "png" | "jpeg"; quality?: number }> = {
  "in print": { style: "DejaVu Serif, serif", as: "png" },
  "as a poor scan": {
    style: "DejaVu Sans, sans-serif;color:#555;background:#e8e4da;transform:rotate(.4deg)",
    as: "jpeg",
    quality: 35,
  },
};

const stay = () => new AbortController().signal;

describe.skipIf(!HAS_TESSERACT || chromiumPath() === undefined)("pages at 150 dpi", () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await openBrowser();
  });
  afterAll(() => browser?.close());

  test.each(
    Object.keys(PAGES).flatMap((language) => Object.keys(LOOKS).map((look) => [language, look] as const)),
  )("in %s, %s, are read with less than 3 of 100 characters wrong", async (language, look) => {
    const paragraphs = PAGES[language]!;
    const { style, as, quality } = LOOKS[look]!;
    const page = await browser.newPage({ viewport: { width: 1240, height: 1754 } });
    await page.setContent(htmlOf(paragraphs, style));
    const bytes = new Uint8Array(
      await page.screenshot({ type: as, ...(quality !== undefined && { quality }) }),
    );
    await page.close();
    const analyst = tesseractAnalyst(await findTesseract());
    const picture = {
      ...requestFor().picture,
      mimeType: `image/${as}`,
      width: 1240,
      height: 1754,
      bytes: () => Promise.resolve(bytes),
    };
    const { result } = await analyst.analyse(requestFor({ picture }));
    const rate = characterErrorRate(paragraphs.join(" "), result!.ocr_text);
    console.log(`${language}, ${look}: ${(rate * 100).toFixed(2)} %`);
    expect(rate).toBeLessThan(0.03);
    expect(result!.confidence).toBeGreaterThan(0.7);
  });
});

test("errors are counted as they should be", () => {
  expect(characterErrorRate("abcd\n efgh", "abcd efgh")).toBe(0);
  expect(characterErrorRate("0123456789", "012x4567899")).toBeCloseTo(0.2);
  expect(characterErrorRate("0123456789", "")).toBe(1);
});

describe.skipIf(!HAS_TESSERACT)("the program", () => {
  test("does not take what is no picture, and says so", async () => {
    const program = await findTesseract();
    const text = new TextEncoder().encode("; rm -rf / no picture");
    await expect(program!.read(text, stay())).rejects.toMatchObject({ how: "unreadable" });
  });
});

/** A program of its own, in the place of tesseract. */
async function standIn(body: string): Promise<string> {
  const path = `${await Deno.makeTempDir()}/tesseract`;
  const head =
    '#!/bin/sh\ncase "$1" in --version) echo "tesseract 5.0"; exit;; --list-langs) echo "eng\nrus"; exit;; esac\n';
  await Deno.writeTextFile(path, head + body, { mode: 0o755 });
  return path;
}

describe("a tesseract that misbehaves", () => {
  const picture = new Uint8Array(1_000_000);

  test("is killed when its time is over, and when nobody wants its answer any more", async () => {
    const marker = await Deno.makeTempFile();
    const program = await standIn(`echo $$ > ${marker}; exec sleep 1000`);
    const late = await findTesseract({ program, timeoutMs: 300 });
    await expect(late!.read(picture, stay())).rejects.toMatchObject({ how: "late" });
    await expectGone(marker);

    const gone = new AbortController();
    const patient = await findTesseract({ program });
    await Deno.writeTextFile(marker, "");
    const reading = patient!.read(picture, gone.signal);
    await expect.poll(() => Deno.readTextFile(marker)).not.toBe("");
    gone.abort(new DOMException("gone", "AbortError"));
    await expect(reading).rejects.toThrow("gone");
    await expectGone(marker);
  });

  test("is killed when it says too much", async () => {
    const program = await standIn("exec yes");
    const found = await findTesseract({ program, maxOutputBytes: 100_000 });
    await expect(found!.read(picture, stay())).rejects.toMatchObject({ how: "unreadable" });
  });

  test("that fails is told by its last words", async () => {
    const program = await standIn("cat > /dev/null; echo first >&2; echo 'last words' >&2; exit 3");
    const found = await findTesseract({ program });
    await expect(found!.read(picture, stay())).rejects.toThrow("last words");
  });

  test("is told nothing of the environment's secrets", async () => {
    Deno.env.set("EVE_TEST_SECRET", "sb_secret_x");
    try {
      const program = await standIn("cat > /dev/null; env");
      const said = await (await findTesseract({ program }))!.read(picture, stay());
      expect(said).toContain("OMP_THREAD_LIMIT=1");
      expect(said).not.toContain("sb_secret_x");
    } finally {
      Deno.env.delete("EVE_TEST_SECRET");
    }
  });

  test("is none without Russian, or where there is none at all", async () => {
    expect(await findTesseract({ program: "/nowhere/tesseract" })).toBeNull();
    const path = `${await Deno.makeTempDir()}/tesseract`;
    await Deno.writeTextFile(path, "#!/bin/sh\necho tesseract 5.0\necho eng\n", { mode: 0o755 });
    expect(await findTesseract({ program: path })).toBeNull();
  });
});

async function expectGone(marker: string): Promise<void> {
  const pid = Number(await Deno.readTextFile(marker));
  expect(pid).toBeGreaterThan(0);
  expect(() => Deno.kill(pid, "SIGCONT")).toThrow(Deno.errors.NotFound);
}
