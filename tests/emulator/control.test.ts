/** The control endpoint, over HTTP. */
import { afterEach, expect, test } from "vitest";
import { fingerprint } from "../../local/emulator/emulator.ts";
import { clockAt, emulator, GEMMA, KEY, NOON, post, prompt, statusOf, stopAll } from "./fixture.ts";

afterEach(stopAll);

async function control(url: string, call: string, body?: unknown) {
  const [method, path] = call.split(" ") as [string, string];
  const answer = await fetch(`${url}/__control/${path}`, {
    method,
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return { status: answer.status, body: await answer.json() };
}

test("statistics show who called what, and never a key", async () => {
  const clock = clockAt(NOON);
  const one = await emulator({ now: clock.now, models: [{ name: GEMMA, limits: { rpm: 2 } }] });
  await statusOf(one, "Say hi", { key: "demo-key-a" });
  clock.at += 1_000;
  await statusOf(one, "Say hi", { key: "demo-key-b", method: "streamGenerateContent" });
  await statusOf(one, "Say hi", { key: "demo-key-a" });
  await statusOf(one, "Say hi", { key: "a-secret-of-someone" });
  const { body } = await control(one.url, "GET stats");
  const [a, b] = ["demo-key-a", "demo-key-b"].map(fingerprint);
  expect(body).toMatchObject({
    now: NOON + 1_000,
    received: {
      total: 4,
      byKey: { [a!]: 2, [b!]: 1 },
      byProject: { "demo-one": 3, none: 1 },
      byModel: { [GEMMA]: 4 },
      byMethod: { generateContent: 3, streamGenerateContent: 1 },
    },
    admitted: { total: 2, tokens: 6 },
    refused: { total: 1, byLimit: { rpm: 1, tpm: 0, rpd: 0, zero: 0 } },
    answered: { total: 4, byStatus: { 200: 2, 400: 1, 429: 1 } },
    lanes: [{
      project: "demo-one",
      model: GEMMA,
      minute: { requests: 2, tokens: 6 },
      today: 2,
      limits: { rpm: 2 },
    }],
    lastAdmitted: [
      {
        at: NOON,
        key: a,
        project: "demo-one",
        model: GEMMA,
        method: "generateContent",
        requests: 1,
        tokens: 3,
      },
      { at: NOON + 1_000, key: b, method: "streamGenerateContent" },
    ],
  });
  expect((await control(one.url, "GET stats?last=1")).body.lastAdmitted).toHaveLength(1);
  const everything = JSON.stringify([body, (await control(one.url, "GET requests")).body]);
  for (const key of ["demo-key-a", "demo-key-b", "a-secret-of-someone"]) {
    expect(everything).not.toContain(key);
  }
});

test("requests are stored as they came, with keys hidden everywhere", async () => {
  const one = await emulator({ keepRequests: 2 });
  await statusOf(one, "first");
  await (await post(one, prompt("second"), { key: null, query: `?key=${KEY}` })).text();
  await (await post(one, prompt("third"), {
    headers: { authorization: `Bearer ${KEY}`, "x-mark": "kept" },
  })).text();
  const { body } = await control(one.url, "GET requests");
  expect(body).toHaveLength(2);
  expect(JSON.parse(body[0].body)).toEqual(prompt("second"));
  expect(body[0].path).toBe(`/v1beta/models/${GEMMA}:generateContent?key=${fingerprint(KEY)}`);
  expect(body[1]).toMatchObject({ status: 200, headers: { "x-mark": "kept" }, project: "demo-one" });
  expect(JSON.stringify(body)).not.toContain(KEY);
});

test("faults are queued, listed with keys hidden, and cleared", async () => {
  const one = await emulator();
  const queued = await control(one.url, "POST faults", [
    { kind: "status", error: "internal", match: { key: KEY } },
    { kind: "delay", delayMs: 1 },
  ]);
  expect(queued.body.ids).toHaveLength(2);
  const listed = await control(one.url, "GET faults");
  expect(listed.body.map((item: { fault: { kind: string } }) => item.fault.kind)).toEqual([
    "status",
    "delay",
  ]);
  expect(JSON.stringify(listed.body)).not.toContain(KEY);
  expect(await statusOf(one)).toBe(500);
  expect((await control(one.url, "DELETE faults")).body).toEqual({ cleared: 1 });
});

test("limits change while it runs, for a model or for one project", async () => {
  const one = await emulator({ now: clockAt(NOON).now });
  const changed = await control(one.url, "POST limits", [
    { model: GEMMA, rpm: 1 },
    { model: GEMMA, project: "demo-two", rpm: null, tpm: 100 },
  ]);
  expect(changed.body.map(({ limits }: { limits: unknown }) => limits)).toEqual([
    { rpm: 1, tpm: 16_000, rpd: 14_400 },
    { rpm: null, tpm: 100, rpd: 14_400 },
  ]);
  expect([await statusOf(one), await statusOf(one)]).toEqual([200, 429]);
  for (let i = 0; i < 3; i++) expect(await statusOf(one, "hi", { key: "demo-key-c" })).toBe(200);
});

test("another window starts empty, but the day goes on", async () => {
  const one = await emulator({
    now: clockAt(NOON).now,
    models: [{ name: GEMMA, limits: { rpm: 1, rpd: 2 } }],
  });
  expect([await statusOf(one), await statusOf(one)]).toEqual([200, 429]);
  expect((await control(one.url, "POST window", { kind: "token_bucket", burst: 1 })).status).toBe(200);
  expect([await statusOf(one), await statusOf(one)]).toEqual([200, 429]);
  expect(one.control.stats()).toMatchObject({ window: { kind: "token_bucket" }, lanes: [{ today: 2 }] });
});

test("a reset drops what was seen and used, and the limits only on request", async () => {
  const one = await emulator({ now: clockAt(NOON).now });
  await control(one.url, "POST limits", { model: GEMMA, rpm: 1 });
  one.control.addFaults({ kind: "delay", delayMs: 1, skip: 5 });
  expect([await statusOf(one), await statusOf(one)]).toEqual([200, 429]);
  await control(one.url, "POST reset");
  expect(one.control.stats()).toMatchObject({ received: { total: 0 }, lanes: [], lastAdmitted: [] });
  expect(one.control.faults()).toEqual([]);
  expect([await statusOf(one), await statusOf(one)]).toEqual([200, 429]);
  await control(one.url, "POST reset", { limits: true });
  expect([await statusOf(one), await statusOf(one)]).toEqual([200, 200]);
});

test("a control that is wrong says why", async () => {
  const one = await emulator();
  const wrong = [
    ["POST faults", { kind: "explode" }, /kind/],
    ["POST faults", { kind: "status", error: "no_such" }, /error/],
    ["POST faults", { kind: "safety_block", reason: "RECITATION" }, /blockReason/],
    ["POST faults", { kind: "delay", delayMs: 1, tmies: 2 }, /tmies/],
    ["POST limits", { model: "no-such", rpm: 1 }, /no model "no-such"; there are: gemma-4/],
    ["POST limits", { model: GEMMA, rpm: -1 }, /rpm/],
    ["POST window", { kind: "round" }, /kind/],
  ] as const;
  for (const [call, body, reason] of wrong) {
    const answer = await control(one.url, call, body);
    expect(answer.status).toBe(400);
    expect(answer.body.error).toMatch(reason);
  }
  expect((await control(one.url, "GET nothing")).status).toBe(404);
  expect((await fetch(`${one.url}/__control/faults`, { method: "POST", body: "{" })).status).toBe(400);
  expect(one.control.stats().received.total).toBe(0);
});

test("an option that does not exist is named when it starts", async () => {
  // @ts-expect-error the option is misspelt on purpose
  await expect(emulator({ latencyMS: 5 })).rejects.toThrow(/latencyMS/);
  const one = await emulator();
  await expect(emulator({ port: one.port })).rejects.toThrow();
});
