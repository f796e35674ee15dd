import { expect, test } from "vitest";
import { traceIdOf } from "../../../shared/http/trace.ts";

const TRACE = "0af7651916cd43dd8448eb211c80319c";

test.each([
  [`00-${TRACE}-b7ad6b7169203331-01`, TRACE],
  [`00-${"0".repeat(32)}-b7ad6b7169203331-01`, null],
  [`00-${TRACE.toUpperCase()}-b7ad6b7169203331-01`, null],
  ["x", null],
])("traceparent %s", (traceparent, traceId) => {
  expect(traceIdOf(new Request("http://gateway/", { headers: { traceparent } }))).toBe(traceId);
});
