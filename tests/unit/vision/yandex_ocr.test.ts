/** Text read by Yandex Vision OCR: within its published limits, one call a second, and every failure told as what it is. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  ocrBreaches,
  type OcrCall,
  type OcrEmulator,
  ocrEmulator,
} from "../../../local/yandex_ocr/emulator.ts";
import type { AnalysisRequest, Analyst } from "../../../shared/vision/analyst.ts";
import {
  type TakeTurn,
  yandexOcrAnalyst,
  yandexOcrOptions,
} from "../../../shared/vision/analysts/yandex_ocr.ts";
import { asFetch } from "../../fakes/fake_api.ts";
import { settled, StillClock } from "../gateway/gateway_fixture.ts";
import { requestFor } from "./vision_fixture.ts";

let emulator: OcrEmulator;
let clock: StillClock;
let analyst: Analyst;
let next: Map<string, number>;
beforeEach(() => {
  next = new Map();
  emulator = ocrEmulator();
  clock = new StillClock();
  emulator.now = clock.now;
  analyst = analystOf({});
});
afterEach(() => expect(ocrBreaches(emulator.journal)).toEqual([]));

function analystOf(environment: Record<string, string>): Analyst {
  const all: Record<string, string> = {
    YANDEX_OCR_API_KEY: "AQVN-ocr",
    YANDEX_FOLDER_ID: "b1gfolder",
    YANDEX_OCR_BASE_URL: "https://ocr.test/",
    ...environment,
  };
  return yandexOcrAnalyst(yandexOcrOptions((name) => all[name], asFetch(emulator.handler))!, takeTurn, clock);
}

/** As eve_crawl_turn takes them, by the same clock. */
const takeTurn: TakeTurn = (of, apartMs, mostMs) => {
  const at = Math.max(clock.now(), next.get(of) ?? 0);
  const wait_ms = at - clock.now();
  if (wait_ms > mostMs) return Promise.resolve({ is_taken: false, wait_ms });
  next.set(of, at + apartMs);
  return Promise.resolve({ is_taken: true, wait_ms });
};

const { picture } = requestFor();
const analyse = (more: Partial<AnalysisRequest> = {}) => analyst.analyse(requestFor(more));

test("a picture's text, in its lines, costs no tokens", async () => {
  emulator.texts.push("Афиша\n12 мая");
  expect(await analyse()).toMatchObject({
    provider: "yandex",
    model: "vision-ocr/page",
    result: { ocr_text: "Афиша\n12 мая", confidence: null, is_meme: null },
    inputTokens: 0,
    outputTokens: 0,
  });
  expect(emulator.journal).toEqual([
    {
      at: 0,
      status: 200,
      mimeType: "image/png",
      folder: "b1gfolder",
      bytes: 4,
      pixels: 0,
      languageCodes: ["ru", "en"],
      logged: false,
    },
  ]);
  expect(analyst.capabilities).toMatchObject({ spendsTokens: false, readsTextOnly: true });
});

test("a picture without text has none, and an answer of lines alone is read", async () => {
  emulator.texts.push("", "one\ntwo");
  expect((await analyse()).result!.ocr_text).toBe("");
  emulator.faults.push("lines_alone");
  const second = analyse();
  await clock.advance(2_000);
  expect((await second).result!.ocr_text).toBe("one\ntwo");
});

test("calls are a second apart, however many come at once, and in their order; too many are sent away", async () => {
  emulator.texts.push("1", "2", "3", "4", "5");
  const all = Array.from({ length: 7 }, () => analyse());
  const ended = Promise.allSettled(all);
  await clock.advance(10_000);
  const results = await ended;
  expect(
    results.map((result) =>
      result.status === "fulfilled" ? result.value.result!.ocr_text : result.reason.kind
    ),
  )
    .toEqual(["1", "2", "3", "4", "5", "no_capacity", "no_capacity"]);
  expect(emulator.journal.map(({ at }) => at)).toEqual([0, 1_100, 2_200, 3_300, 4_400]);
});

test("one who leaves while waiting calls nobody, and those behind go on", async () => {
  await analyse();
  const gone = new AbortController();
  const leaving = analyse({ signal: gone.signal });
  const staying = analyse();
  await settled();
  gone.abort(new DOMException("gone", "AbortError"));
  await expect(leaving).rejects.toThrow("gone");
  await clock.advance(3_000);
  expect((await staying).result!.ocr_text).toBe("текст");
  expect(emulator.journal.length).toBe(2);
});

describe("a fault", () => {
  test.each(
    [
      ["rate_limited", "no_capacity", "upstream_rate_limited"],
      ["broken", "retryable", "upstream_unavailable"],
      ["half_answer", "retryable", "upstream_unavailable"],
      ["not_json", "retryable", "upstream_unavailable"],
      ["no_annotation", "retryable", "upstream_unavailable"],
    ] as const,
  )("of the kind %s is %s", async (fault, kind, code) => {
    emulator.faults.push(fault);
    await expect(analyse()).rejects.toMatchObject({ name: "AnalysisFailure", kind, code });
  });

  test("a hung call is left after its time", async () => {
    emulator.faults.push("hangs");
    const failed = expect(analyse()).rejects.toMatchObject({ kind: "retryable", code: "upstream_timeout" });
    await settled();
    await clock.advance(30_000);
    await failed;
  });

  test("a wrong key or folder is not tried again, and the key is not repeated", async () => {
    for (
      const [name, value] of [["YANDEX_OCR_API_KEY", "AQVN-secret"], [
        "YANDEX_FOLDER_ID",
        "b1gother",
      ]] as const
    ) {
      const failure = await analystOf({ [name]: value }).analyse(requestFor()).catch((thrown) => thrown);
      expect(failure).toMatchObject({ kind: "refused" });
      expect(String(failure)).not.toContain("AQVN-secret");
      await clock.advance(2_000);
    }
  });

  test("what is no picture is refused", async () => {
    const bytes = () => Promise.resolve(new TextEncoder().encode("text"));
    await expect(analyse({ picture: { ...picture, bytes } })).rejects.toMatchObject({ kind: "refused" });
  });
});

test.each([
  { mimeType: "image/webp" },
  { sizeBytes: 10_000_001 },
  { width: 5_000, height: 4_001 },
])("a picture beyond the limits is not sent: %o", async (more) => {
  await expect(analyse({ picture: { ...picture, ...more } })).rejects.toMatchObject({ kind: "refused" });
  expect(emulator.journal).toEqual([]);
});

test("without a key or a folder it is not set up", () => {
  const of = (environment: Record<string, string>) => yandexOcrOptions((name) => environment[name], fetch);
  expect(of({ YANDEX_API_KEY: "k" })).toBeNull();
  expect(of({ YANDEX_FOLDER_ID: "f" })).toBeNull();
  expect(of({ YANDEX_API_KEY: "k", YANDEX_FOLDER_ID: "f" })).toMatchObject({ apiKey: "k", folderId: "f" });
});

test.each<[string, Partial<OcrCall>[]]>([
  ["2 calls in a second", [{ at: 0 }, { at: 999 }]],
  ["pixels", [{ pixels: 20_000_001 }]],
  ["bytes", [{ bytes: 10_000_001 }]],
  ["image/webp", [{ mimeType: "image/webp" }]],
  ["kept", [{ logged: true }]],
])("the check of the journal finds %s", (found, calls) => {
  const call = {
    at: 0,
    status: 200,
    mimeType: "image/png",
    folder: "f",
    bytes: 4,
    pixels: 1,
    languageCodes: [],
    logged: false,
  };
  expect(ocrBreaches(calls.map((more) => ({ ...call, ...more }))).join()).toContain(found);
});
