/** The lines of the log, and when they are written. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { createLog } from "../../../shared/runtime/log.ts";
import { CanonicalLogLine } from "../../../shared/runtime/canonical_log_line.ts";
import { VERSION } from "../../../shared/contract/version.ts";

describe("a line", () => {
  const written: [level: string, line: string][] = [];
  beforeEach(() => {
    written.length = 0;
    for (const level of ["info", "warn", "error"] as const) {
      vi.spyOn(console, level).mockImplementation((line: string) => void written.push([level, line]));
    }
  });
  afterEach(() => vi.restoreAllMocks());

  test("is one JSON object, without what is not known", () => {
    createLog()("warn", "attempt_failed", { "error.type": "x", detail: undefined, text: "a\nb" });
    const [[level, line] = expect.unreachable()] = written;
    expect(level).toBe("warn");
    expect(line).not.toContain("\n");
    expect(JSON.parse(line)).toEqual({
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      level: "warn",
      message: "attempt_failed",
      "error.type": "x",
      text: "a\nb",
    });
  });

  test.each<[string | undefined, string[]]>([
    [undefined, ["info", "warn", "error"]],
    ["info", ["info", "warn", "error"]],
    [" WARN ", ["warn", "error"]],
    ["error", ["error"]],
    ["loud", ["info", "warn", "error"]],
  ])("EVE_LOG_LEVEL %s", (least, expected) => {
    const log = createLog(least);
    for (const level of ["info", "warn", "error"] as const) log(level, "m", {});
    expect(written.map(([level]) => level)).toEqual(expected);
  });
});

describe("the logLine of a request", () => {
  let lines: [string, string, Record<string, unknown>][];
  const logLine = () => {
    lines = [];
    let now = 0;
    return new CanonicalLogLine({
      trace: { traceId: "t", spanId: "s", parentSpanId: null },
      log: (...line) => void lines.push(line),
      clock: { now: () => now += 10, sleep: () => Promise.resolve() },
      receivedAt: 0,
    });
  };

  test("of an answer in one piece is written when it is answered", () => {
    const line = logLine();
    line.begin();
    line.end({ "eve.outcome": "succeeded", "eve.attempts": 2 });
    expect(lines).toEqual([]);
    line.responded(200, { request_id: "r", "eve.outcome": "failed" });
    expect(lines).toEqual([["info", "request_ended", {
      trace_id: "t",
      span_id: "s",
      parent_span_id: undefined,
      request_id: "r",
      "eve.outcome": "succeeded",
      "eve.attempts": 2,
      "http.response.status_code": 200,
      "eve.duration_ms": 10,
    }]]);
  });

  test("of a stream is written when it is over, a broken one as a warning", () => {
    const line = logLine();
    line.begin();
    line.responded(200, { request_id: "r" });
    expect(lines).toEqual([]);
    line.end({ "eve.outcome": "failed", "error.type": "upstream_unavailable" });
    expect(lines).toMatchObject([["warn", "request_ended", { "error.type": "upstream_unavailable" }]]);
  });

  test("of many embeddings is a line each", () => {
    const line = logLine();
    for (const _ of [1, 2, 3]) line.begin();
    for (const id of ["r.1", "r.2", "r.3"]) line.end({ request_id: id });
    line.responded(200, { request_id: "r" });
    expect(lines.map(([, , { request_id }]) => request_id)).toEqual(["r.1", "r.2", "r.3"]);
  });

  test("of a caller who was refused is written at once, what went wrong inside as an error", () => {
    const refused = logLine();
    refused.responded(401, { "error.type": "credential_missing" });
    expect(lines).toMatchObject([["info", "request_ended", { "error.type": "credential_missing" }]]);
    logLine().responded(500, {});
    expect(lines).toMatchObject([["error", "request_ended", {}]]);
  });
});

test("the version that functions report is the package's", async () => {
  const { version } = JSON.parse(await Deno.readTextFile(new URL("../../../package.json", import.meta.url)));
  expect(VERSION).toBe(version);
});
