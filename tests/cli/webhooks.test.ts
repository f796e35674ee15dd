/** Webhooks and dead letters as the owner has them at the command line, on a whole stack, to a real receiver. */
import postgres from "postgres";
import { Webhook } from "standardwebhooks";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { eve } from "../../cli/eve.ts";
import type { CommandDependencies } from "../../cli/eve/command.ts";
import { connect } from "../../cli/eve/connection.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";
import { type Receiver, startReceiver } from "../observability/receiver.ts";

let stack: TestStack;
let sql: postgres.Sql;
let receiver: Receiver;
beforeAll(async () => {
  stack = await startTestStack();
  sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
});
afterAll(async () => {
  await sql?.end();
  await stack?.stop();
});
beforeEach(() => {
  receiver = startReceiver();
});
afterEach(() => receiver.stop());

async function run(args: string[], around: Partial<CommandDependencies> = {}) {
  const said: string[] = [];
  const complained: string[] = [];
  const code = await eve(args, {
    say: (text) => said.push(text),
    complain: (text) => complained.push(text),
    connect: () => connect(stack.url, stack.keys.secret),
    ...around,
  });
  return { code, said: said.join("\n"), complained: complained.join("\n") };
}

async function json(...args: string[]) {
  const { code, said } = await run([...args, "--json"]);
  return { code, answer: JSON.parse(said) };
}

const runEvents = () => run(["maintenance", "run", "events"]);

test("a webhook is added, tested, rotated, told of alerts, switched off and deleted", async () => {
  const added = await run(["webhooks", "add", `${receiver.url}/hook`, "--types", "eve.alert.*"]);
  expect(added.complained).toBe("");
  const [secret] = /whsec_\S+/.exec(added.said)!;
  const [{ id }] = (await json("webhooks", "list")).answer;
  const short = id.slice(0, 8);

  const tested = await run(["webhooks", "test", short]);
  expect(tested).toMatchObject({
    code: 0,
    said: expect.stringMatching(/It arrived: status 200 after \d+ ms/),
  });
  const verified = (place: number, by: string) =>
    new Webhook(by).verify(
      receiver.received[place]!.body,
      Object.fromEntries(receiver.received[place]!.headers),
    );
  expect(verified(0, secret)).toMatchObject({ type: "eve.webhook.test.v1", data: { webhook_id: id } });
  const listed = await run(["webhooks", "list"]);
  expect([listed.code, listed.said]).toEqual([0, expect.stringContaining("eve.alert.*")]);
  expect(listed.said).not.toContain(secret);

  const rotated = (await json("webhooks", "rotate", short, "--grace", "1h")).answer;
  expect(rotated.previous_secret_until).not.toBeNull();
  await sql`select eve.open_alert('model_vanished', 'm', 'warning', 'm has gone')`;
  await runEvents();
  await expect.poll(() => receiver.received.length).toBe(2);
  for (const one of [secret, rotated.secret]) {
    expect(verified(1, one)).toMatchObject({ type: "eve.alert.opened.v1", subject: "model_vanished m" });
  }

  expect((await run(["webhooks", "log", short])).said).toMatch(
    /eve\.alert\.opened\.v1 +model_vanished m +delivered +200/,
  );
  const [last] = (await json("webhooks", "log", short, "--limit", "1")).answer;
  expect((await run(["webhooks", "redeliver", short, "--delivery", String(last.delivery_id)])).said)
    .toContain(
      "1 delivery will be sent again",
    );
  await runEvents();
  await expect.poll(() => receiver.received.length).toBe(3);
  expect(receiver.received[2]!.headers.get("webhook-id")).toBe(
    receiver.received[1]!.headers.get("webhook-id"),
  );

  await run(["webhooks", "disable", short]);
  expect(await run(["webhooks", "test", short])).toMatchObject({
    code: 1,
    complained: expect.stringContaining("switched off"),
  });
  expect((await run(["webhooks", "list"])).code).toBe(1);
  expect((await run(["webhooks", "enable", short])).said).toContain("is on");
  expect((await run(["webhooks", "delete", short])).complained).toContain("--yes");
  expect((await run(["webhooks", "delete", short, "--yes"])).code).toBe(0);
  expect((await run(["webhooks", "list"])).said).toContain("There is no webhook yet");
});

test("an address that leads inside, a wrong secret and a wrong id are refused in words", async () => {
  for (const url of ["http://10.0.0.5/hook", "https://169.254.169.254/", "http://[::1]:9000/"]) {
    expect(await run(["webhooks", "add", url])).toMatchObject({
      code: 1,
      complained: expect.stringMatching(/^invalid_request: .*url: must /),
    });
  }
  const short = await run(["webhooks", "add", `${receiver.url}/hook`, "--secret"], {
    secret: () => Promise.resolve("too short"),
  });
  expect(short.complained).toContain("whsec_ and the base64 of 24 to 64 bytes");
  expect((await run(["webhooks", "add", `${receiver.url}/hook`, "--types", "eve.alert"])).complained)
    .toContain("types holds");
  expect((await run(["webhooks", "test", "abcd"])).complained).toContain("There is no webhook abcd");
  expect((await run(["webhooks", "redeliver", "abcd"])).code).toBe(2);
});

test("dead letters are listed, shown, sent again and dropped", async () => {
  const { answer: webhook } = await json("webhooks", "add", `${receiver.url}/hook`);
  expect((await run(["dlq", "list"])).said).toContain("There is no dead letter");
  await sql`update eve.event_consumers set retry_s = '{}'`;
  receiver.answer(() => new Response(null, { status: 500 }));
  for (let number = 0; number < 2; number++) {
    expect(await run(["webhooks", "test", webhook.id])).toMatchObject({
      code: 1,
      said: expect.stringContaining("It did not arrive: status 500"),
    });
  }
  const listed = await json("dlq", "list");
  expect(listed).toMatchObject({
    code: 1,
    answer: [{ type: "eve.webhook.test.v1" }, { error: "status 500" }],
  });
  const [second, first] = listed.answer;
  expect((await run(["dlq", "show", String(first.id)])).said).toMatch(/try 1 +.*failed, status 500/);
  expect((await run(["dlq", "replay"])).complained).toContain("Say which");
  receiver.answer(() => new Response(null, { status: 204 }));
  expect((await json("dlq", "replay", String(first.id))).answer).toEqual({ replayed: 1 });
  await runEvents();
  await expect.poll(async () => (await json("webhooks", "log", webhook.id, "--state", "delivered")).answer)
    .toMatchObject([{ event_id: first.event_id }]);
  expect((await json("dlq", "drop", "--consumer", second.consumer)).answer).toEqual({ dropped: 1 });
  expect(await run(["dlq", "list"])).toMatchObject({ code: 0 });
  expect((await run(["dlq", "show", "999"])).complained).toContain("no dead letter 999");
  await run(["webhooks", "delete", webhook.id, "--yes"]);
});
