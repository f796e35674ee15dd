/** A picture that another machine reads: handed in once, waited for, and its text taken over. */
import { describe, expect, test } from "vitest";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { JobToSubmit } from "../../../shared/database/jobs/job_queue.ts";
import type { JobRow } from "../../../shared/database/jobs/jobs.ts";
import { ocrJob } from "../../../shared/jobs/ocr_runner.ts";
import { queuedTesseractAnalyst } from "../../../shared/vision/analysts/queued_tesseract.ts";
import { textResult } from "../../../shared/vision/result.ts";
import { requestFor } from "./vision_fixture.ts";

function queue(job: Partial<JobRow> | GatewayError | null) {
  const submitted: JobToSubmit[] = [];
  let id = 0;
  const analyst = queuedTesseractAnalyst({
    newId: () => `job-${++id}`,
    submit: (jobs, caller) => {
      expect(caller).toEqual({ consumerId: null, tokenId: null });
      submitted.push(...jobs);
      return Promise.resolve({ jobs: [{ id: jobs[0]!.id, isNew: true }], wake: false });
    },
    find: () => job instanceof GatewayError ? Promise.reject(job) : Promise.resolve(job as JobRow | null),
  });
  return { analyst, submitted, analyse: () => analyst.analyse(requestFor()) };
}

test("is handed in as the runner takes it, the same step as the same job", async () => {
  const { analyse, submitted } = queue({ state: "queued" });
  for (let n = 0; n < 2; n++) await expect(analyse()).rejects.toMatchObject({ kind: "no_capacity" });
  expect(submitted.map(({ requestId }) => requestId)).toEqual(["ocr.vision.step-1", "ocr.vision.step-1"]);
  expect(submitted[0]!.kind).toBe("ocr");
  expect(ocrJob.parse(submitted[0]!.body)).toEqual(submitted[0]!.body);
});

test("what was read is the result", async () => {
  const result = textResult("Афиша", 0.9);
  const done = { provider: "tesseract", model: "tesseract 5.3.0", result, rawText: "Афиша", more: 1 };
  const { analyst, analyse } = queue({ state: "succeeded", result: done });
  expect(await analyse()).toEqual({
    provider: "tesseract",
    model: "tesseract 5.3.0",
    result,
    rawText: "Афиша",
    fault: null,
    inputTokens: 0,
    outputTokens: 0,
    replayed: true,
  });
  expect(analyst).toMatchObject({
    name: "tesseract",
    capabilities: { spendsTokens: false, readsTextOnly: true },
  });
});

describe("until then", () => {
  test.each([[{ state: "queued" as const }], [{ state: "running" as const }], [null]])(
    "it waits, and says what for: %o",
    async (job) => {
      await expect(queue(job).analyse()).rejects.toMatchObject({
        kind: "no_capacity",
        code: "tesseract_missing",
        message: expect.stringContaining("npm run worker"),
        retryAfterMs: null,
      });
    },
  );

  test("a job that failed is a refusal with its reason; a database that is away is not", async () => {
    const failed = queue({ state: "failed", error_code: "tesseract_late", error_detail: "why" });
    await expect(failed.analyse()).rejects.toMatchObject({
      kind: "refused",
      code: "tesseract_late",
      message: "why",
    });
    await expect(queue({ state: "expired", error_code: null }).analyse()).rejects.toMatchObject({
      kind: "refused",
    });
    await expect(queue(new GatewayError("database_unavailable")).analyse()).rejects.toMatchObject({
      kind: "no_capacity",
    });
    await expect(queue({ state: "succeeded", result: { no: "analysis" } }).analyse()).rejects.toMatchObject({
      kind: "refused",
    });
  });
});
