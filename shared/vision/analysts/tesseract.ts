import { AnalysisFailure, type Analyst, type AnalystCapabilities, unsuitable } from "../analyst.ts";
import { MAX_RAW_CHARS, textResult } from "../result.ts";

/** The languages that are read, as tesseract's packages name them. */
export const OCR_LANGUAGES = ["rus", "eng"] as const;

/** What a machine without it is told to do. */
export const TESSERACT_MISSING =
  "tesseract with Russian and English is not on this machine: install tesseract-ocr and tesseract-ocr-rus, and run `npm run worker` there";

/** The program, found on this machine. Only a process outside of the hosted functions can run one. */
export interface TesseractProgram {
  /** `tesseract 5.3.0`. */
  version: string;
  /**
   * Reads a picture: what it says as TSV. Bounded in time and output; nothing of it is left running.
   * @throws TesseractFailure, and the signal's reason when it aborts
   */
  read(picture: Uint8Array<ArrayBuffer>, signal: AbortSignal): Promise<string>;
}

export class TesseractFailure extends Error {
  /** `late`: it took too long; `unreadable`: it does not take the picture, or said too much. */
  readonly how: "late" | "unreadable";

  constructor(how: "late" | "unreadable", message: string) {
    super(message);
    this.name = "TesseractFailure";
    this.how = how;
  }
}

export const TESSERACT_CAPABILITIES: AnalystCapabilities = {
  // What Debian's leptonica reads. Of a gif its first picture.
  mimeTypes: new Set(["image/jpeg", "image/png", "image/tiff", "image/bmp", "image/webp", "image/gif"]),
  maxBytes: 20_000_000,
  // A page of A4 at 600 dpi. Pixels are held as 32 bits, several times over.
  maxPixels: 36_000_000,
  spendsTokens: false,
  readsTextOnly: true,
};

/**
 * Tesseract reads the text, on a machine of one's own. It costs nothing but time: one core for some seconds a page.
 * @param program null: it is not on this machine, and every picture waits for one where it is
 */
export function tesseractAnalyst(program: TesseractProgram | null): Analyst {
  return {
    name: "tesseract",
    capabilities: TESSERACT_CAPABILITIES,
    estimatedTokens: () => 0,
    async analyse({ picture, signal }) {
      signal.throwIfAborted();
      if (program === null) throw new AnalysisFailure("no_capacity", "tesseract_missing", TESSERACT_MISSING);
      const why = unsuitable(TESSERACT_CAPABILITIES, picture);
      if (why !== null) throw new AnalysisFailure("refused", "unsupported_feature", why);
      let tsv: string;
      try {
        tsv = await program.read(await picture.bytes(signal), signal);
      } catch (thrown) {
        signal.throwIfAborted();
        if (!(thrown instanceof TesseractFailure)) throw thrown;
        // It would take as long once more.
        throw new AnalysisFailure("refused", `tesseract_${thrown.how}`, thrown.message);
      }
      const { text, confidence } = textOfTsv(tsv);
      return {
        provider: "tesseract",
        model: program.version,
        result: textResult(text, confidence),
        fault: null,
        rawText: text.slice(0, MAX_RAW_CHARS),
        inputTokens: 0,
        outputTokens: 0,
        replayed: false,
      };
    },
  };
}

/** A row that is a word; the others are the blocks and lines that it is in. */
const WORD = "5";

/**
 * The words of tesseract's TSV (level, page, block, paragraph, line, word, left, top, width, height, confidence, text) as text: lines
 * divided by `\n`, blocks and paragraphs by an empty line.
 */
export function textOfTsv(tsv: string): { text: string; confidence: number | null } {
  let text = "";
  let paragraph = "";
  let line = "";
  let sum = 0;
  let words = 0;
  for (const row of tsv.split("\n")) {
    const cells = row.split("\t");
    const word = cells[11]?.trim() ?? "";
    if (cells[0] !== WORD || word === "") continue;
    const inParagraph = cells.slice(1, 4).join();
    const inLine = cells.slice(1, 5).join();
    if (text !== "") text += inLine === line ? " " : inParagraph === paragraph ? "\n" : "\n\n";
    text += word;
    paragraph = inParagraph;
    line = inLine;
    sum += Math.max(0, Number(cells[10]) || 0);
    words++;
  }
  return { text, confidence: words === 0 ? null : sum / words / 100 };
}
