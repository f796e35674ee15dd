/** A job of the kind `ocr`: a stored picture, read by the machine's program. */
import { describe, expect, test } from "vitest";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { ClaimedJob } from "../../../shared/database/jobs/job_leases.ts";
import { ocrRunner } from "../../../shared/jobs/ocr_runner.ts";
import type { Media } from "../../../shared/media/storage.ts";
import { TesseractFailure } from "../../../shared/vision/analysts/tesseract.ts";

/** A GIF, as far as its size. */
const GIF = "GIF89a@\x01@\x01ok";
const BODY = {
  tenant_id: "t1",
  file_sha256: "a".repeat(64),
  mime_type: "image/png",
  size_bytes: GIF.length,
  width: 640,
  height: 480,
};
const TSV = "5\t1\t1\t1\t1\t1\t0\t0\t9\t9\t90\tАфиша";

/** A runner over a store that has one object, in two pieces. */
function runner(
  { content = GIF, get, read = () => Promise.resolve(TSV) }: {
    content?: string | null;
    get?: () => Promise<never>;
    read?: (picture: Uint8Array, signal: AbortSignal) => Promise<string>;
  } = {},
) {
  const asked: unknown[][] = [];
  const pieces = () => new Blob([content!.slice(0, 2), content!.slice(2)]).stream();
  const store = { get: get ?? (() => Promise.resolve({ body: pieces() })) };
  const media = {
    s3: store,
    spool: store,
    registry: {
      find: (...args: unknown[]) => {
        asked.push(args);
        const object = { s3_key: "k", stored_in: "s3" };
        return Promise.resolve(content === null ? null : { object });
      },
    },
  } as unknown as Media;
  const run = ocrRunner({
    program: { version: "tesseract 5.3.0", read },
    media: () => Promise.resolve(media),
  });
  return {
    asked,
    run: (body: unknown = BODY, signal = new AbortController().signal) =>
      run({ id: "j1", body, consumer_id: null } as ClaimedJob, { signal, progress: () => {} }),
  };
}

test("its text is the job's result", async () => {
  let given = "";
  const { run, asked } = runner({
    read: (picture) => {
      given = new TextDecoder().decode(picture);
      return Promise.resolve(TSV);
    },
  });
  expect(await run()).toMatchObject({
    kind: "done",
    result: {
      provider: "tesseract",
      model: "tesseract 5.3.0",
      result: { ocr_text: "Афиша", confidence: 0.9 },
    },
  });
  expect(given).toBe(GIF);
  expect(asked).toEqual([[{ kind: "project" }, "t1", BODY.file_sha256]]);
});

describe("a run that does not end well", () => {
  test.each<[string, Parameters<typeof runner>[0], Record<string, unknown>]>([
    ["no such picture", { content: null }, { code: "object_not_found", retryable: false }],
    ["a store that is away", { get: () => Promise.reject(new GatewayError("storage_unavailable")) }, {
      code: "storage_unavailable",
      retryable: true,
    }],
    ["more bytes than it was said to have", { content: `${GIF}!` }, {
      code: "content_mismatch",
      retryable: false,
    }],
    ["a connection to the store that broke off", { content: "by" }, {
      code: "storage_unavailable",
      retryable: true,
    }],
    ["a picture that takes too long", { read: () => Promise.reject(new TesseractFailure("late", "x")) }, {
      code: "tesseract_late",
      retryable: false,
    }],
  ])("is told as what it is: %s", async (_, given, failure) => {
    expect(await runner(given).run()).toMatchObject({ kind: "failed", failure });
  });

  test("is given back when the worker is to end", async () => {
    const gone = new AbortController();
    const { run } = runner({
      read: (_, signal) => {
        gone.abort(new DOMException("gone", "AbortError"));
        return Promise.reject(signal.reason);
      },
    });
    expect(await run(BODY, gone.signal)).toEqual({ kind: "unspent" });
  });

  test("is none for a body of another form", async () => {
    await expect(runner().run({ ...BODY, file_sha256: "../../etc/passwd" })).rejects.toThrow();
  });
});
