import { describe, expect, test } from "vitest";
import { codeOfSqlstate, type ErrorCode, errorRow, ERRORS } from "../../../shared/contract/errors.ts";
import { asGatewayError, GatewayError } from "../../../shared/contract/gateway_error.ts";

const codes = Object.keys(ERRORS) as ErrorCode[];

describe("the table of errors", () => {
  test.each(codes)("%s has a stable name, a status of an error and words that say what to do", (code) => {
    const row = errorRow(code);
    expect(code).toMatch(/^[a-z]+(_[a-z]+)*$/);
    expect(row.status).toBeGreaterThanOrEqual(400);
    expect(row.status).toBeLessThan(600);
    expect(row.message).toMatch(/^[A-Z].*\.$/);
  });

  test("each errcode belongs to one code", () => {
    const states = codes.map((code) => errorRow(code).sqlstate).filter((state) => state !== undefined);
    expect(new Set(states).size).toBe(states.length);
    expect(codeOfSqlstate("EV400")).toBe("invalid_argument");
    expect(codeOfSqlstate("23505")).toBeNull();
  });
});

describe("an error that nobody foresaw", () => {
  test("is the fixed internal one, its text for the log alone", () => {
    const error = asGatewayError(new TypeError("secret detail"));
    expect(error).toMatchObject({ code: "internal", status: 500, publicMessage: ERRORS.internal.message });
    expect(error.publicMessage).not.toContain("secret detail");
    expect(error.detail).toBe("TypeError: secret detail");
  });

  test("a GatewayError stays itself", () => {
    const error = new GatewayError("rate_limited", { retryAfterMs: 5 });
    expect(asGatewayError(error)).toBe(error);
  });
});
