/** What tesseract reads becomes a result, and what it does not read a reason. */
import { describe, expect, test } from "vitest";
import { tesseractAnalyst, TesseractFailure, textOfTsv } from "../../../shared/vision/analysts/tesseract.ts";
import { requestFor } from "./vision_fixture.ts";

const row = (place: string, confidence: number, word: string, level = 5) =>
  [level, ...place.split("."), 0, 0, 9, 9, confidence, word].join("\t");
const TSV = [
  "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext",
  row("1.1.1.1.0", -1, "", 4),
  row("1.1.1.1.1", 96, "Афиша"),
  row("1.1.1.1.2", 90, "клуба"),
  row("1.1.1.2.1", 84, "12"),
  row("1.1.1.2.2", 95, " "),
  row("1.2.1.1.1", 90, "Вход"),
  "",
].join("\n");

const reading = (read: () => Promise<string>) => tesseractAnalyst({ version: "tesseract 5.3.0", read });

test("words stand in their lines, paragraphs apart, with the mean of what it was sure of", () => {
  expect(textOfTsv(TSV)).toEqual({ text: "Афиша клуба\n12\n\nВход", confidence: 0.9 });
  expect(textOfTsv("")).toEqual({ text: "", confidence: null });
});

test("a picture's text costs no tokens", async () => {
  const analyst = reading(() => Promise.resolve(TSV));
  expect(analyst.estimatedTokens(requestFor().picture, "high")).toBe(0);
  expect(analyst.capabilities).toMatchObject({ spendsTokens: false, readsTextOnly: true });
  expect(await analyst.analyse(requestFor())).toMatchObject({
    provider: "tesseract",
    model: "tesseract 5.3.0",
    result: { ocr_text: "Афиша клуба\n12\n\nВход", confidence: 0.9, nsfw: null },
    inputTokens: 0,
    outputTokens: 0,
  });
});

describe("a picture waits or is refused", () => {
  test("where there is no tesseract, in words that say what to install", async () => {
    await expect(tesseractAnalyst(null).analyse(requestFor())).rejects.toMatchObject({
      kind: "no_capacity",
      code: "tesseract_missing",
      message: expect.stringContaining("tesseract-ocr-rus"),
    });
  });

  test.each(["late", "unreadable"] as const)("that it is %s with", async (how) => {
    const analyst = reading(() => Promise.reject(new TesseractFailure(how, "why")));
    await expect(analyst.analyse(requestFor())).rejects.toMatchObject({
      kind: "refused",
      code: `tesseract_${how}`,
    });
  });

  test("that is larger than memory should hold, before it is read from its store", async () => {
    const { picture } = requestFor();
    let read = 0;
    const bytes = () => {
      read++;
      return Promise.resolve(new Uint8Array());
    };
    const analyst = reading(() => Promise.resolve(TSV));
    await expect(
      analyst.analyse(requestFor({ picture: { ...picture, bytes, width: 10_000, height: 10_000 } })),
    )
      .rejects.toMatchObject({ kind: "refused" });
    expect(read).toBe(0);
  });
});
