import { afterAll, beforeAll, expect, test } from "vitest";
import { firstCall } from "../../local/first_call.ts";
import { type FakeServer, serveFake } from "../fakes/fake_api.ts";

let server: FakeServer;
let answer: Response;
beforeAll(() => {
  server = serveFake(() => Promise.resolve(answer));
});
afterAll(() => server?.close());

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
