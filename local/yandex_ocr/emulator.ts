/** Yandex Vision OCR's `recognizeText`, as its reference documents it, with faults and a journal. Shares no code with the gateway. */

export interface OcrCall {
  /** Milliseconds since 1970, by the emulator's clock. */
  at: number;
  status: number;
  mimeType: string;
  folder: string;
  /** Of the picture itself. */
  bytes: number;
  /** Width times height of a PNG; 0 of others. */
  pixels: number;
  languageCodes: string[];
  logged: boolean;
}

export interface OcrEmulator {
  apiKeys: Set<string>;
  folders: Set<string>;
  now: () => number;
  /** What it reads, picture by picture; then `текст`. */
  texts: string[];
  /** How the next calls go wrong. */
  faults:
    ("rate_limited" | "broken" | "half_answer" | "not_json" | "hangs" | "no_annotation" | "lines_alone")[];
  journal: OcrCall[];
  handler: (request: Request) => Promise<Response>;
}

const refusal = (httpCode: number, grpcCode: number, message: string, httpStatus: string) =>
  Response.json({ error: { grpcCode, httpCode, message, httpStatus, details: [] } }, { status: httpCode });

/** Types by both names that its documentation has. */
const BEGINNINGS: Readonly<Record<string, readonly number[]>> = {
  "image/jpeg": [0xff, 0xd8, 0xff],
  JPEG: [0xff, 0xd8, 0xff],
  "image/png": [0x89, 0x50, 0x4e, 0x47],
  PNG: [0x89, 0x50, 0x4e, 0x47],
};
const MAX_BYTES = 10_000_000;
const MAX_PIXELS = 20_000_000;

function pixelsOf(bytes: Uint8Array<ArrayBuffer>): number {
  if (bytes[0] !== 0x89 || bytes.length < 24) return 0;
  const view = new DataView(bytes.buffer);
  return view.getUint32(16) * view.getUint32(20);
}

export function ocrEmulator(): OcrEmulator {
  const emulator: OcrEmulator = {
    apiKeys: new Set(["AQVN-ocr"]),
    folders: new Set(["b1gfolder"]),
    now: Date.now,
    texts: [],
    faults: [],
    journal: [],
    handler: async (request) => {
      const call: OcrCall = {
        at: emulator.now(),
        status: 0,
        mimeType: "",
        folder: request.headers.get("x-folder-id") ?? "",
        bytes: 0,
        pixels: 0,
        languageCodes: [],
        logged: request.headers.get("x-data-logging-enabled") === "true",
      };
      emulator.journal.push(call);
      const response = await answered(emulator, request, call);
      call.status = response.status;
      return response;
    },
  };
  return emulator;
}

async function answered(emulator: OcrEmulator, request: Request, call: OcrCall): Promise<Response> {
  const { pathname } = new URL(request.url);
  if (request.method !== "POST" || pathname !== "/ocr/v1/recognizeText") {
    return refusal(404, 5, "Not Found", "Not Found");
  }
  const key = /^Api-Key (\S+)$/.exec(request.headers.get("authorization") ?? "")?.[1];
  if (key === undefined || !emulator.apiKeys.has(key)) {
    return refusal(401, 16, "Unknown api key", "Unauthorized");
  }
  if (!emulator.folders.has(request.headers.get("x-folder-id") ?? "")) {
    return refusal(403, 7, "Permission denied", "Forbidden");
  }
  // deno-lint-ignore no-explicit-any -- whatever was sent.
  const body: any = await request.json().catch(() => null);
  const bytes = Uint8Array.from(atob(body?.content ?? ""), (char) => char.charCodeAt(0));
  Object.assign(call, {
    mimeType: body?.mimeType,
    bytes: bytes.length,
    pixels: pixelsOf(bytes),
    languageCodes: body?.languageCodes ?? [],
  });
  const fault = emulator.faults.shift();
  if (fault === "rate_limited") {
    return refusal(429, 8, "ocr.syncRecognize.rps quota limit exceed", "Too Many Requests");
  }
  if (fault === "broken") return refusal(500, 13, "Internal error", "Internal Server Error");
  const beginning = BEGINNINGS[body?.mimeType];
  if (beginning === undefined) return refusal(400, 3, "mime_type is not supported", "Bad Request");
  if (call.pixels > MAX_PIXELS) return refusal(400, 3, "image size exceeds the limit", "Bad Request");
  if (bytes.length > MAX_BYTES) return refusal(400, 3, "content size exceeds the limit", "Bad Request");
  if (!beginning.every((byte, place) => bytes[place] === byte)) {
    return refusal(400, 3, "Bad image data", "Bad Request");
  }
  const text = emulator.texts.shift() ?? "текст";
  const lines = text === "" ? [] : text.split("\n").map((line) => ({ text: line, words: [] }));
  const textAnnotation = {
    width: "640",
    height: "480",
    blocks: lines.length === 0 ? [] : [{ lines, languages: [{ languageCode: "ru" }] }],
    entities: [],
    tables: [],
    ...(fault !== "lines_alone" && { fullText: text }),
    rotate: "ANGLE_0",
  };
  const answer = JSON.stringify({
    result: { ...(fault !== "no_annotation" && { textAnnotation }), page: "0" },
  });
  switch (fault) {
    case "half_answer":
      return new Response(answer.slice(0, answer.length / 2));
    case "not_json":
      return new Response("<html>502</html>");
    case "hangs":
      return new Response(
        new ReadableStream({
          start: (controller) =>
            request.signal.addEventListener("abort", () => controller.error(request.signal.reason)),
        }),
      );
  }
  return new Response(answer, { headers: { "content-type": "application/json" } });
}

/** Everything that clients did against the limits that Yandex publishes for a folder's one second and a picture; nothing: []. */
export function ocrBreaches(journal: readonly OcrCall[], requestsASecond = 1): string[] {
  const breaches: string[] = [];
  for (const [place, { at, folder, bytes, pixels, mimeType, logged }] of journal.entries()) {
    const within = journal.filter((other) =>
      other.folder === folder && other.at > at - 1_000 && other.at <= at
    ).length;
    if (within > requestsASecond) breaches.push(`${place}: ${within} calls in a second`);
    if (bytes > MAX_BYTES) breaches.push(`${place}: ${bytes} bytes`);
    if (pixels > MAX_PIXELS) breaches.push(`${place}: ${pixels} pixels`);
    if (bytes > 0 && BEGINNINGS[mimeType] === undefined) breaches.push(`${place}: ${mimeType}`);
    if (logged) breaches.push(`${place}: the picture may be kept there`);
  }
  return breaches;
}
