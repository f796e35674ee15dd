/** Webhooks on a real database, towards a real HTTP server: signed, tried again, switched off, never sent where they must not go. */
import OpenAI from "openai";
import { Webhook } from "standardwebhooks";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { directTransport } from "../../shared/database/transport/direct_transport.ts";
import { createWebhooks, type Webhooks } from "../../shared/database/webhooks.ts";
import { deliverDue } from "../../shared/events/deliver.ts";
import { eventHandlers } from "../../shared/events/open.ts";
import { addWebhook, rotateWebhook } from "../../shared/events/webhooks/register.ts";
import { namedHosts } from "../../shared/http/outgoing/public_target.ts";
import type { Resolve } from "../../shared/http/outgoing/public_target.ts";
import { createKeyEncryption } from "../../shared/secrets/key_encryption.ts";
import { freezeClock, type TestClock } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { HandClock } from "../harness/hand_clock.ts";
import { until } from "../harness/patience.ts";
import { never, type Received, type Receiver, startReceiver } from "../observability/receiver.ts";

const ADMIN_SECRET_KEY = "c2VjcmV0IG9mIHRoZSB0ZXN0IG9mIHdlYmhvb2tz";
const encryption = createKeyEncryption(ADMIN_SECRET_KEY);
const HOUR_MS = 3_600_000;

let database: TestDatabase;
let sql: TestDatabase["sql"];
let clock: TestClock;
let direct: ReturnType<typeof directTransport>;
let webhooks: Webhooks;
beforeAll(async () => {
  database = await cloneDatabase();
  ({ sql } = database);
  clock = await freezeClock(sql);
  direct = directTransport({ url: database.url, connections: 4, pooler: false });
  webhooks = createWebhooks(direct.call);
});
afterAll(async () => {
  await direct?.close();
  await database?.drop();
});

let receiver: Receiver;
let logged: unknown[];
let hands: HandClock;
beforeEach(async () => {
  await empty(sql, "eve.events", "eve.event_consumers", "eve.alerts");
  await clock.set(Date.now());
  receiver = startReceiver();
  logged = [];
  hands = new HandClock();
  // A pause of the deliverer passes in the database too.
  hands.onPause = () => clock.advance(hands.pauses.at(-1)!);
});
afterEach(() => receiver.stop());

const register = () => ({
  webhooks,
  encryption,
  allows: namedHosts("127.0.0.1"),
  newId: () => crypto.randomUUID(),
});

const add = async (path = "/hook", types = ["eve.thing.*"], consumer: string | null = null) => {
  const { webhook, secret } = await addWebhook(register(), {
    consumer,
    url: `${receiver.url}${path}`,
    types,
  });
  return { id: webhook.id, secret: secret! };
};

const emit = async (subject: string) =>
  (await sql`
    select eve.emit_event(
      '/things', 'eve.thing.happened.v1', ${subject}, '{"id": "thing-1"}',
      traceparent => '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    ) as id`)[0]!.id as string;

/** One run that has plenty of time; `draw`: which part of each pause passes. */
function run(
  { draw = 1, resolve, fetch: own }: { draw?: number; resolve?: Resolve; fetch?: typeof fetch } = {},
) {
  const variables: Record<string, string> = { ADMIN_SECRET_KEY, EVE_WEBHOOK_HOSTS: "127.0.0.1" };
  const { handlers, problems } = eventHandlers({
    read: (name) => variables[name],
    gateway: "gateway.example",
    network: { fetch: own ?? fetch, resolve },
    clock: hands,
    now: clock.nowMs,
  });
  expect(problems).toEqual([]);
  return deliverDue({
    call: direct.call,
    clock: hands,
    random: () => draw,
    log: (...line) => logged.push(line),
    handlers,
  }, { untilMs: hands.now() + 100_000, signal: new AbortController().signal });
}

const verified = ({ body, headers }: Received, secret: string) =>
  new Webhook(secret).verify(body, Object.fromEntries(headers));
const deliveries = async (id: string) => (await webhooks.deliveries(id, {})).deliveries;
const shown = async () => (await webhooks.list())[0]!;

describe("a webhook", () => {
  test("gets what it takes, once, signed so that the libraries of Standard Webhooks and OpenAI accept it", async () => {
    const { id, secret } = await add();
    expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    const event = await emit("thing 1");
    expect(await run()).toEqual({ delivered: 1, failed: 0, more: false });
    await run();
    expect(receiver.received).toHaveLength(1);
    const [got] = receiver.received;
    const payload = {
      specversion: "1.0",
      id: event,
      source: "//gateway.example/things",
      type: "eve.thing.happened.v1",
      subject: "thing 1",
      time: expect.stringMatching(/^20\d\d-\d\d-\d\dT/),
      timestamp: expect.stringMatching(/^20\d\d-\d\d-\d\dT/),
      datacontenttype: "application/json",
      traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      data: { id: "thing-1" },
    };
    expect(verified(got!, secret)).toEqual(payload);
    expect(got!.headers.get("webhook-id")).toBe(event);
    expect(got!.headers.get("traceparent")).toBe(payload.traceparent);
    const openai = new OpenAI({ apiKey: "none", webhookSecret: secret });
    expect(await openai.webhooks.unwrap(got!.body, got!.headers)).toEqual(payload);
    expect(() => verified(got!, `whsec_${btoa("another secret of 24 bytes")}`)).toThrow(
      "No matching signature",
    );
    expect(await deliveries(id)).toMatchObject([{
      event_id: event,
      state: "delivered",
      tries: [{ attempt: 1, result: "delivered", status: 200, error: null }],
    }]);
  });

  test("that fails is tried again at the published times, with the same id, and is a dead letter at the end", async () => {
    const { id, secret } = await add();
    const event = await emit("x");
    receiver.answer(() => new Response(null, { status: 500 }));
    const published = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
    // The first pause is so short that a run waits for it.
    expect(await run()).toMatchObject({ failed: 2 });
    for (const seconds of published.slice(1)) {
      await clock.advance(seconds * 1_000 - 10_001);
      expect(await run()).toMatchObject({ failed: 0 });
      await clock.advance(10_001);
      if (seconds !== published.at(-1)) expect(await run()).toMatchObject({ failed: 1 });
    }
    expect(await run()).toMatchObject({ failed: 1 });
    expect(receiver.received).toHaveLength(10);
    expect(new Set(receiver.received.map(({ headers }) => headers.get("webhook-id")))).toEqual(
      new Set([event]),
    );
    // Each try is signed for its own time.
    const times = receiver.received.map(({ headers }) => Number(headers.get("webhook-timestamp")));
    expect(times.slice(1).map((time, place) => time - times[place]!)).toEqual(published);
    expect(() => verified(receiver.received[9]!, secret)).toThrow("too new");
    expect(await deliveries(id)).toMatchObject([{ state: "dead", attempts: 10, last_error: "status 500" }]);
    expect(await sql`select attempts from eve.dead_letters`).toEqual([{ attempts: 10 }]);
    expect(logged.at(-1)).toMatchObject(["error", "event_not_delivered", { state: "dead", attempt: 10 }]);
    expect(await shown()).toMatchObject({ pending: 0, dead_letters: 1 });
  });

  test("waits for a part of each pause, drawn at random", async () => {
    const { id } = await add();
    await emit("x");
    receiver.answer(() => new Response(null, { status: 500 }));
    await run({ draw: 0.5 });
    const [delivery] = await deliveries(id);
    expect(hands.pauses).toEqual([2_500]);
    expect(Date.parse(delivery!.next_try_at!) - clock.nowMs()).toBe(150_000);
  });

  test("that asks for rest is left alone as long, with all that waits for it", async () => {
    await add();
    for (const subject of ["a", "b", "c", "d", "e"]) await emit(subject);
    const limited = () => new Response(null, { status: 429, headers: { "retry-after": "3600" } });
    receiver.answer(() => new Response(null, { status: 200 }), [limited, limited, limited, limited]);
    await run();
    expect(receiver.received).toHaveLength(4);
    await clock.advance(HOUR_MS - 10_001);
    await run();
    expect(receiver.received).toHaveLength(4);
    await clock.advance(10_001);
    expect(await run()).toMatchObject({ delivered: 5 });
  });

  test("that answers 410 is switched off, and on again by hand; what was lost can be sent again", async () => {
    const { id } = await add();
    await emit("a");
    receiver.answer(() => new Response(null, { status: 200 }), [() => new Response(null, { status: 410 })]);
    await run();
    expect(await shown()).toMatchObject({ is_active: false, off_reason: "gone" });
    await emit("b");
    await expect(webhooks.test(id)).rejects.toThrow("switched off");
    await run();
    expect(receiver.received).toHaveLength(1);
    expect(await sql`select kind from eve.alerts where closed_at is null`).toEqual([{
      kind: "webhook_gone",
    }]);

    expect(await webhooks.change(id, { isActive: true })).toMatchObject({
      is_active: true,
      off_reason: null,
    });
    expect(await sql`select kind from eve.alerts where closed_at is null`).toEqual([]);
    expect(await webhooks.redeliver(id, { since: "2026-01-01T00:00:00Z" })).toBe(1);
    expect(await run()).toMatchObject({ delivered: 1 });
  });

  test("that redirects has failed: nobody else gets the message", async () => {
    const { id } = await add();
    await emit("x");
    receiver.answer(() => new Response(null, { status: 307, headers: { location: "/elsewhere" } }));
    await run({ draw: 0.999 });
    expect(receiver.received.map(({ path }) => path)).toEqual(["/hook", "/hook"]);
    expect(await deliveries(id)).toMatchObject([{
      state: "pending",
      last_error: "status 307: a redirect, which is not followed",
    }]);
  });

  test("that does not answer holds up no other, and has failed after 15 s", async () => {
    const one = await add("/one");
    const two = await add("/two");
    await emit("x");
    receiver.answer(() => new Response(null, { status: 200 }), [never]);
    const running = run();
    await until(() => receiver.received.length === 2);
    await until(async () =>
      (await sql`select from eve.event_deliveries where state = 'delivered'`).length === 1
    );
    expect(hands.timers).toContain(15_000);
    hands.ring();
    await running;
    const slow = receiver.received[0]!.path === "/one" ? one : two;
    expect((await deliveries(slow.id))[0]!.tries[0]).toMatchObject({
      result: "failed",
      error: "no answer within 15 s",
    });
  });

  test("gets a message again whose sender was killed before it could note the answer: at least once, under the same id", async () => {
    await add();
    await emit("x");
    receiver.answer(() => new Response(null, { status: 200 }), [never]);
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--cached-only", "tests/db/deliver_process.ts", database.url, ADMIN_SECRET_KEY],
      stdout: "null",
      stderr: "inherit",
    }).spawn();
    await until(() => receiver.received.length === 1, "the process sent nothing");
    child.kill("SIGKILL");
    await child.status;
    await run();
    expect(receiver.received).toHaveLength(1);
    await clock.advance(60_000);
    expect(await run()).toMatchObject({ delivered: 1 });
    const [first, second] = receiver.received;
    expect(second!.headers.get("webhook-id")).toBe(first!.headers.get("webhook-id"));
    expect(second!.body).toBe(first!.body);
  });
});

describe("a secret", () => {
  test("that is rotated signs beside the new one for as long as was said", async () => {
    const { id, secret: old } = await add();
    const { secret: fresh } = await rotateWebhook(register(), { id, graceSeconds: 3_600 });
    expect(fresh).not.toBe(old);
    await emit("a");
    await run();
    const [first] = receiver.received;
    expect(first!.headers.get("webhook-signature")!.split(" ")).toHaveLength(2);
    for (const secret of [old, fresh]) expect(verified(first!, secret)).toMatchObject({ subject: "a" });

    await clock.advance(HOUR_MS);
    await emit("b");
    await run();
    const second = receiver.received[1]!;
    expect(second.headers.get("webhook-signature")!.split(" ")).toHaveLength(1);
    const own = (secret: string) =>
      new Webhook(secret).sign(second.headers.get("webhook-id")!, new Date(clock.nowMs()), second.body);
    expect(second.headers.get("webhook-signature")).toBe(own(fresh));
  });

  test("signs for the address that it was made for, and for no other", async () => {
    const { id } = await add();
    await sql`update eve.webhooks set url = ${`${receiver.url}/elsewhere`}`;
    await emit("x");
    await run();
    expect(receiver.received).toEqual([]);
    expect(await deliveries(id)).toMatchObject([{
      last_error: expect.stringContaining("made for another address"),
    }]);
    // Nor does the secret of one webhook serve another.
    const { id: other } = await add("/other");
    await sql`update eve.webhooks set secret = (select secret from eve.webhooks where id = ${id}) where id = ${other}`;
    await emit("y");
    await run();
    expect(receiver.received).toEqual([]);
  });

  test("is nowhere but in the answer that made it; of an address only the host is", async () => {
    const { id, secret } = await add("/token-in-the-path");
    await emit("x");
    receiver.answer(() => new Response(null, { status: 500 }));
    await run();
    await receiver.stop();
    await clock.advance(400_000);
    await run();
    receiver = startReceiver();
    const kept = JSON.stringify([
      await sql`select * from eve.webhooks`,
      await sql`select * from eve.event_attempts`,
      await sql`select * from eve.event_deliveries`,
      await sql`select * from eve.alerts`,
      await webhooks.list(),
      await deliveries(id),
      logged,
    ]);
    expect(kept).not.toContain(secret.slice(6, 30));
    expect(kept).toContain("could not be reached");
    expect(JSON.stringify(logged)).not.toContain("token-in-the-path");
  });

  test("may be given, if it is one", async () => {
    const wanted = { consumer: null, url: `${receiver.url}/hook`, types: [] };
    for (const secret of ["short", "whsec_c2hvcnQ=", "whsec_!!!!", `whsec_${btoa("x".repeat(65))}`]) {
      await expect(addWebhook(register(), { ...wanted, secret })).rejects.toMatchObject({
        code: "invalid_request",
      });
    }
    const secret = `whsec_${btoa("x".repeat(24))}`;
    expect(await addWebhook(register(), { ...wanted, secret })).toMatchObject({ secret });
    // The same address again: it is there, and its secret is not shown.
    expect(await addWebhook(register(), wanted)).toMatchObject({ secret: null });
    expect(await webhooks.list()).toHaveLength(1);
  });

  test("is encrypted again after a change of ADMIN_SECRET_KEY", async () => {
    const { secret } = await add();
    const both = createKeyEncryption(`${btoa("the new secret of this test")},${ADMIN_SECRET_KEY}`);
    const tokens = [];
    for (const { token } of await webhooks.ciphertexts()) {
      tokens.push({ token, replacement: (await both.renew(token))! });
    }
    expect(await webhooks.reencrypt(tokens)).toBe(1);
    const [renewed] = await webhooks.ciphertexts();
    expect(await createKeyEncryption(btoa("the new secret of this test")).decrypt(renewed!.token)).toBe(
      secret,
    );
  });
});

describe("[security.webhooks] an address that is not public", () => {
  const REFUSED = [
    "http://localhost/hook",
    "https://10.0.0.5/hook",
    "https://169.254.169.254/latest/meta-data",
    "https://[::1]/hook",
    "https://[fd00::1]/hook",
    "http://167772165/hook",
    "https://db.internal/hook",
    "https://user:word@example.com/hook",
    "https://example.com:8443/hook",
    "ftp://example.com/hook",
    "not a url",
  ];

  test.each(REFUSED)("%s is refused when it is given", async (url) => {
    await expect(addWebhook(register(), { consumer: null, url, types: ["*"] })).rejects.toMatchObject({
      code: "invalid_request",
      details: [{ field: "url" }],
    });
    expect(await webhooks.list()).toEqual([]);
  });

  test("is not called either when it got into the database, or a name came to lead there", async () => {
    const asked: string[] = [];
    const spy = ((input: URL) => {
      asked.push(String(input));
      return Promise.reject(new Error("no network in this test"));
    }) as typeof fetch;
    await addWebhook(register(), {
      consumer: null,
      url: "https://hooks.example.com/",
      types: ["eve.thing.*"],
    });
    await emit("x");
    await run({ fetch: spy, resolve: () => Promise.resolve(["93.184.216.34", "10.0.0.5"]) });
    expect((await deliveries((await shown()).id))[0]!.last_error).toBe(
      "its address must lead to a public host",
    );
    await sql`update eve.webhooks set url = 'http://169.254.169.254/'`;
    await clock.advance(400_000);
    await run({ fetch: spy });
    expect(asked).toEqual([]);
  });
});

describe("a caller", () => {
  beforeEach(async () => {
    await sql`delete from eve.consumers where kind <> 'project'`;
    await sql`insert into eve.consumers (name, kind) values ('mine', 'service'), ('theirs', 'service')`;
  });

  test("is told of what concerns them, and the project of everything", async () => {
    await add("/mine", ["*"], "mine");
    await add("/theirs", ["*"], "theirs");
    await add("/project", ["*"]);
    await sql`
      select eve.emit_event('/things', 'eve.thing.happened.v1', 'x', consumer_id => c.id)
      from eve.consumers c where c.name = 'mine'`;
    await emit("y");
    await run();
    expect(receiver.received.map(({ path, body }) => `${path} ${JSON.parse(body).subject}`).sort()).toEqual([
      "/mine x",
      "/project x",
      "/project y",
    ]);
  });

  test("who is removed takes their webhooks along", async () => {
    await add("/mine", ["*"], "mine");
    await sql`delete from eve.consumers where name = 'mine'`;
    expect(await webhooks.list()).toEqual([]);
    expect(await sql`select from eve.event_consumers`).toHaveLength(0);
  });

  test("has twenty webhooks at most, and names types that there may be", async () => {
    for (let number = 0; number < 20; number++) await add(`/hook${number}`, [], "mine");
    await expect(add("/one-more", [], "mine")).rejects.toThrow("webhooks_max");
    for (const types of [["eve.thing"], ["*.v1"], ["eve.*.v1"], ["Eve.x.v1"], Array(51).fill("eve.x.v1")]) {
      await expect(add("/hook", types, "theirs")).rejects.toThrow(/^types /);
    }
    await expect(add("/hook", [], "nobody")).rejects.toThrow("no consumer named nobody");
  });
});

test("a test event goes to one webhook alone; what has arrived can be sent again", async () => {
  const { id } = await add("/one", []);
  await add("/two", ["*"]);
  const { event_id, delivery_id } = await webhooks.test(id);
  await run();
  expect(await webhooks.redeliver(id, { deliveryId: delivery_id })).toBe(1);
  await run();
  expect(receiver.received.map(({ path, headers }) => `${path} ${headers.get("webhook-id")}`)).toEqual([
    `/one ${event_id}`,
    `/one ${event_id}`,
  ]);
  expect((await deliveries(id))[0]!.tries).toHaveLength(2);
  await expect(webhooks.redeliver(id, { deliveryId: 999_999 })).rejects.toThrow("no delivery 999999");
  await webhooks.remove(id);
  await expect(webhooks.remove(id)).rejects.toThrow("there is no webhook");
});
