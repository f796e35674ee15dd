/** A request in one line, as `tail` shows it. */
import { expect, test } from "vitest";
import { requestLine } from "../../../cli/eve/request_lines.ts";
import type { RequestRow } from "../../../shared/database/reading.ts";

const ROW: RequestRow = {
  request_no: 7,
  refusal_no: null,
  request_id: "r7",
  at: "2026-11-25T08:00:00.000Z",
  finished_at: "2026-11-25T08:00:01.500Z",
  consumer: "bot",
  consumer_id: null,
  token_id: null,
  requested_model: "gemma-4-31b-it",
  model: "gemma-4-31b-it",
  key: "demo-a",
  class: "interactive",
  door: "native",
  state: "succeeded",
  error_code: null,
  finish_reason: "STOP",
  trace_id: null,
  attempts: 1,
  wait_ms: 0,
  duration_ms: 1_500,
  input_tokens: 9,
  output_tokens: 3,
  total_tokens: 12,
  limit: null,
  retry_after_ms: null,
};

test.each<[string, Partial<RequestRow>, string]>([
  [
    "what the model thought stands beside its answer",
    { total_tokens: 1_512 },
    "9 + 3 + 1,500 thinking tokens",
  ],
  ["of a model that thought nothing there is no word", {}, "9 + 3 tokens"],
  ["nor where an upstream did not count", { input_tokens: null, total_tokens: 1_512 }, "? + 3 tokens"],
])("%s", (_, row, words) => {
  expect(requestLine({ ...ROW, ...row }).split("  ")).toContain(`${words}, 1.50 s`);
});
