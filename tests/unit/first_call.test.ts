import { afterAll, beforeAll, expect, test } from "vitest";
import { firstCall } from "../../local/first_call.ts";
import { type FakeServer, serveFake } from "../fakes/fake_api.ts";

let server: FakeServer;
let answer: Response;
beforeAll(() => {
  server = serveFake(() => Promise.resolve(answer));
});
afterAll(() => server?.close());

test.each([
  ["upstream_unavailable", /`npm run eve -- doctor` says whether Google is reached from here/],
  ["key_rejected", /Is GOOGLE_API_KEY typed right\?/],
])("a first call that fails with %s says what to do, and how to repeat it", async (code, advice) => {
  answer = Response.json({ error: { code, message: "It failed." } }, { status: 503 });
  const { ok, reached, lines } = await firstCall({
    url: server.url,
    keys: { publishable: "p", secret: "s" } as never,
  });
  expect([ok, reached]).toEqual([false, true]);
  expect(lines[0]).toBe(`The first call failed: ${code} (status 503): It failed.`);
  expect(lines[1]).toMatch(advice);
  expect(lines.at(-1)).toMatch(/^ {2}curl -s /);
});

test("the first call's answer is shown, and steers no terminal", async () => {
  answer = Response.json({ text: "Hello\x1b[2J\u202e\nthere", model: "m\x07", key_alias: "one" });
  const { ok, lines } = await firstCall({
    url: server.url,
    keys: { publishable: "p", secret: "s" } as never,
  });
  expect(ok).toBe(true);
  expect(lines).toContain("    Hello\\u001b[2J\\u202e");
  expect(lines).toContain("    there");
  expect(lines[0]).toContain("m\\u0007");
});
