/** Spoilt requests against the whole stack: what the database thinks of them is tried here, the rest in tests/fuzz. */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { body, spoilt } from "../fuzz/arbitraries.ts";
import { ROUTES, safe, wrongWith } from "../fuzz/properties.ts";
import { type Actor, type Actors, startWithActors } from "./actors.ts";

const SEED = 12;
const CASES = 40;
/** Each of them asks Auth who it is. */
const ADMIN_CASES = 8;

let actors: Actors;
const printed: string[] = [];
beforeAll(async () => {
  actors = await startWithActors({ output: (_, line) => void printed.push(line) });
});
afterAll(() => actors?.stop());

function send(actor: Actor, path: string, bytes: BodyInit): Promise<Response> {
  return fetch(`${actors.stack.url}/functions/v1${path}`, {
    method: "POST",
    body: bytes,
    headers: safe({ "content-type": "application/json", ...actors.headers[actor] }),
  });
}

test.each(ROUTES)("llm-invoke%s answers a notebook's token, or says what is wrong", async (path, bodies) => {
  await fc.assert(
    fc.asyncProperty(body(bodies), async (bytes) => {
      const response = await send("notebook token", `/llm-invoke${path}`, bytes);
      expect(wrongWith(path, response, await response.text())).toEqual([]);
    }),
    { seed: SEED, numRuns: CASES },
  );
});

const name = "notes";
/** What a console asks of the admin API; nothing that would take away what other cases need. */
const ASKED: [string, unknown[]][] = [
  ["/consumers/add", [{ name: "new", kind: "service", models: ["m"], rpm: 5 }]],
  ["/consumers/scope", [{ name, models: ["m"], requests_per_day: 5 }]],
  ["/tokens/revoke", [{ token_id: crypto.randomUUID() }, { consumer: name }]],
  ["/providers/update", [{
    stage_type: "POEM",
    provider_kind: "openai",
    api_key: "sk-0123456789abcdef",
    settings: { base_url: "https://example.com" },
  }]],
  ["/providers/remove", [{ stage_type: "POEM" }]],
  ["/limits/set", [{ model: "gemma-4-31b-it", rpm: 5, tpm: null, rpd: 10 }]],
  ["/limits/import", [{ text: "Model,RPM\nm,5", planned: [{ line: 2 }] }]],
  ["/alerts/close", [{ id: 1 }]],
  ["/alerts/acknowledge", [{ id: 1 }]],
  ["/invoke", [{ path: "/", body: { model: "gemma-4-31b-it", prompt: "Hello" } }]],
];

describe.each<Actor>(["console administrator", "ordinary user"])(
  "the admin API, asked by the %s",
  (actor) => {
    test.each(ASKED)("%s", async (path, bodies) => {
      await fc.assert(
        fc.asyncProperty(spoilt(bodies), async (value) => {
          const response = await send(actor, `/admin${path}`, JSON.stringify(value) ?? "");
          const text = await response.text();
          expect({ status: response.status, text }).not.toMatchObject({ status: 500 });
          if (actor === "ordinary user") expect(response.status).toBe(403);
          expect(() => JSON.parse(text)).not.toThrow();
        }),
        { seed: SEED, numRuns: ADMIN_CASES },
      );
    });
  },
);

test("no secret was printed, and nothing went unhandled", () => {
  const all = printed.join("\n");
  for (const secret of Object.values(actors.secrets)) expect(all).not.toContain(secret);
  expect(all).not.toMatch(/unhandled|uncaught/i);
});
