import { expect, test, vi } from "vitest";
import { readTokenRequest } from "../../../shared/identity/token_request.ts";

const HEADERS = new Headers({ "content-type": "application/x-www-form-urlencoded" });
const read = (form: string) => readTokenRequest(HEADERS, new TextEncoder().encode(form));
const ASKED = "grant_type=client_credentials&client_secret=s";
/** As many parameters as a body of 64 KiB has room for. */
const names = (count: number) => Array.from({ length: count }, (_, n) => n.toString(36)).join("&");

test("a form is read, and what it has beside is ignored", () => {
  expect(read(`${ASKED}&ttl=600&foo=bar`)).toMatchObject({ clientSecret: "s", ttlSeconds: 600 });
});

test.each([
  ["at the beginning", `ttl=1&ttl=1&${ASKED}`],
  ["at the end of many", `${ASKED}&${names(10_000)}&zz&zz`],
  ["written in another way", `${ASKED}&t%74l=1&ttl=1`],
])("a parameter that is there twice is refused: %s", (_, form) => {
  expect(() => read(form)).toThrow(
    expect.objectContaining({ code: "invalid_request", message: "a parameter is there twice" }),
  );
});

test("however many there are, the form is gone through a few times and not once for each", () => {
  let looked = 0;
  const spies = (["get", "getAll", "has", "keys", "entries", "values"] as const).map((method) => {
    const original = URLSearchParams.prototype[method] as (
      this: URLSearchParams,
      ...args: unknown[]
    ) => unknown;
    return vi.spyOn(URLSearchParams.prototype, method).mockImplementation(
      function (this: URLSearchParams, ...args: unknown[]) {
        looked++;
        return original.apply(this, args) as never;
      },
    );
  });
  try {
    expect(read(`${ASKED}&${names(15_000)}`)).toMatchObject({ clientSecret: "s" });
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
  expect(looked).toBeLessThan(10);
});
