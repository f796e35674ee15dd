import { expect, test } from "vitest";
import { traceIdOf, traceOf, traceResponse } from "../../../shared/http/trace.ts";

const TRACE = "0af7651916cd43dd8448eb211c80319c";

test.each([
  [`00-${TRACE}-b7ad6b7169203331-01`, TRACE],
  [`00-${"0".repeat(32)}-b7ad6b7169203331-01`, null],
  [`00-${TRACE.toUpperCase()}-b7ad6b7169203331-01`, null],
  [`00-${TRACE}-${"0".repeat(16)}-01`, null],
  [`00-${TRACE}-b7ad6b7169203331-0x`, null],
  [`00-${TRACE}-b7ad6b7169203331-01-more`, null],
  [`cc-${TRACE}-b7ad6b7169203331-01-what-is-to-come`, TRACE],
  [`cc-${TRACE}-b7ad6b7169203331-01.more`, null],
  [`ff-${TRACE}-b7ad6b7169203331-01`, null],
  [` 00-${TRACE}-b7ad6b7169203331-00 `, TRACE],
  [`00-${TRACE}-b7ad6b7169203331-01, 00-${TRACE}-b7ad6b7169203331-01`, null],
  ["x", null],
  ["", null],
])("traceparent %s", (traceparent, traceId) => {
  expect(traceIdOf(withHeader(traceparent))).toBe(traceId);
});

const withHeader = (traceparent: string) => new Request("http://gateway/", { headers: { traceparent } });
const newId = () => "01234567-89ab-4cde-8f01-23456789abcd";

test("a trace goes on with a span of the gateway's own", () => {
  const trace = traceOf(withHeader(`00-${TRACE}-b7ad6b7169203331-01`), newId);
  expect(trace).toEqual({ traceId: TRACE, spanId: "8f0123456789abcd", parentSpanId: "b7ad6b7169203331" });
  expect(traceResponse(trace)).toBe(`00-${TRACE}-8f0123456789abcd-00`);
});

test("without one a trace begins here", () => {
  expect(traceOf(new Request("http://gateway/"), newId)).toEqual({
    traceId: "0123456789ab4cde8f0123456789abcd",
    spanId: "8f0123456789abcd",
    parentSpanId: null,
  });
  expect(traceOf(new Request("http://gateway/")).traceId).toMatch(/^[0-9a-f]{32}$/);
});
