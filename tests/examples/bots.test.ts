/** The bots of examples/, run as programs with the key of a service. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import postgres from "postgres";
import { startTestStack, type TestStack } from "../harness/stack.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { toBase64 } from "../../shared/runtime/base64.ts";
import { pythonThat } from "../harness/python.ts";
import { run, runEve } from "./example_stack.ts";

const POST = "18 июля 2026 в 12:00 на острове Канта — фестиваль «Балтийский берег». Вход 500 ₽.";
const PYTHON = pythonThat("import sys; assert sys.version_info >= (3, 10)");
const DENO = ["run", "-A", "--cached-only", "examples/bot.ts"];

let stack: TestStack;
let sql: postgres.Sql;
let secret: string;
/** Stands before the stack and notes the headers of what comes. */
let front: Deno.HttpServer<Deno.NetAddr>;
const seen: Headers[] = [];

beforeAll(async () => {
  stack = await startTestStack({ emulator: { latencyMs: 5 } });
  sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
  ({ secret } = await runEve(
    stack,
    "consumers",
    "add",
    "my-bot",
    "--kind",
    "service",
    "--class",
    "interactive",
  ));
  front = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
    seen.push(request.headers);
    const { pathname, search } = new URL(request.url);
    return fetch(`${stack.url}${pathname}${search}`, request);
  });
});
afterAll(async () => {
  await front?.shutdown();
  await sql?.end({ timeout: 5 });
  await stack?.stop();
});

const env = (key = secret) => ({
  EVE_GATEWAY_URL: `http://127.0.0.1:${front.addr.port}`,
  EVE_GATEWAY_SECRET: key,
});
const MISTYPED = () => secret.replace(/.$/, (last) => last === "0" ? "1" : "0");

describe.skipIf(PYTHON === undefined)("bot.py", () => {
  test("parses an event, as an interactive call of its consumer", async () => {
    const { code, said, complained } = await run(PYTHON!, ["examples/bot.py", POST], env());
    expect(code, complained).toBe(0);
    expect(JSON.parse(said)).toMatchObject({
      date: expect.stringMatching(/^2026-07-18/),
      title: expect.stringContaining("Балтийский"),
    });
    await expect.poll(lastCaller).toEqual({ name: "my-bot", class: "interactive" });
  });

  test("says what is wrong, and no secret", async () => {
    const { code, said, complained } = await run(PYTHON!, ["examples/bot.py", POST], env(MISTYPED()));
    expect([code, said]).toEqual([1, ""]);
    expect(complained).toMatch(/\[credential_invalid\]/);
    expect(complained).not.toContain("eve_service_");
  });
});

describe("bot.ts", () => {
  test("parses an event beside the database, as an interactive call of its consumer", async () => {
    seen.length = 0;
    const { code, said, complained } = await run(Deno.execPath(), [...DENO, POST], env());
    expect(code, complained).toBe(0);
    expect(JSON.parse(said)).toMatchObject({
      date: expect.stringMatching(/^2026-07-18/),
      title: expect.stringContaining("Балтийский"),
    });
    expect(seen.map((headers) => headers.get("x-region"))).toEqual(["eu-central-1"]);
    await expect.poll(lastCaller).toEqual({ name: "my-bot", class: "interactive" });
  });

  test("says what is wrong, and no secret", async () => {
    const { code, said, complained } = await run(Deno.execPath(), [...DENO, POST], env(MISTYPED()));
    expect([code, said]).toEqual([1, ""]);
    expect(complained).toMatch(/credential_invalid/);
    expect(complained).not.toContain("eve_service_");
  });
});

/** It is settled after it was answered: ask until it is there. */
async function lastCaller() {
  const [row] = await sql`
    select c.name, r.class from eve.requests r join eve.consumers c on c.id = r.consumer_id
    order by r.request_no desc limit 1`;
  return { ...row };
}

describe.skipIf(PYTHON === undefined)("telethon_intake.py", () => {
  test("brings messages and albums of a channel, and follows edits and deletions", async () => {
    const { secret: reader } = await runEve(
      stack,
      "consumers",
      "add",
      "my-reader",
      "--kind",
      "service",
      "--scopes",
      "intake,media",
    );
    const folder = await Deno.makeTempDir();
    try {
      const photo = (number: number) =>
        toBase64(new Uint8Array([0xff, 0xd8, 0xff, 0xe0, number, ...new Uint8Array(200)]));
      const channel = { chat_id: -1001, username: "City_Events" };
      const album = [2, 3, 4].map((id) => ({ id, grouped_id: 77, photo: photo(id) }));
      const seen = [
        {
          kind: "NewMessage",
          ...channel,
          messages: [{
            id: 1,
            text: "one example.com/a",
            links: [{ text: "example.com/a" }, { text: "here", url: "https://example.com/b" }],
          }],
        },
        // Telethon tells of each part, too.
        { kind: "NewMessage", ...channel, messages: [album[2]] },
        { kind: "Album", ...channel, messages: [album[2], { ...album[0], text: "album" }, album[1]] },
        { kind: "MessageEdited", ...channel, messages: [{ id: 1, text: "one, edited", photo: photo(9) }] },
        { kind: "MessageEdited", ...channel, messages: [{ ...album[0], text: "album, edited" }] },
        { kind: "MessageDeleted", ...channel, deleted: [3] },
        { kind: "NewMessage", ...channel, messages: [{ id: 5, text: "gone" }] },
        { kind: "MessageDeleted", ...channel, deleted: [5, 6] },
        {
          kind: "NewMessage",
          ...channel,
          messages: [{ id: 8, text: "large", photo: photo(8), size: 20_000_001 }],
        },
        { kind: "NewMessage", chat_id: -1002, messages: [{ id: 1, text: "elsewhere" }] },
      ];
      await Deno.writeTextFile(`${folder}/events.json`, JSON.stringify(seen));
      const env = {
        EVE_GATEWAY_URL: stack.url,
        EVE_GATEWAY_SECRET: reader,
        EVE_INTAKE_STATE: `${folder}/state.json`,
        FAKE_TELETHON_EVENTS: `${folder}/events.json`,
        TELEGRAM_API_ID: "1",
        TELEGRAM_API_HASH: "h",
        PYTHONPATH: `${CHECKOUT}/tests/fakes`,
      };
      const posts = () =>
        sql`
          select p.source, p.external_id, p.text, p.metadata -> 'links' as links,
            (select count(*)::int from public.post_media_map m where m.post_id = p.id) as pictures
          from public.posts p order by p.source desc, p.published_at`;
      const expected = [
        { source: "telegram:city_events", external_id: "1", text: "one, edited", links: [], pictures: 1 },
        {
          source: "telegram:city_events",
          external_id: "album:77",
          text: "album, edited",
          links: [],
          pictures: 2,
        },
        { source: "telegram:city_events", external_id: "8", text: "large", links: [], pictures: 0 },
        { source: "telegram:-1002", external_id: "1", text: "elsewhere", links: [], pictures: 0 },
      ];
      // A second run sees all of it again.
      for (let n = 0; n < 2; n++) {
        const { code, complained } = await run(PYTHON!, ["examples/telethon_intake.py", "city_events"], env);
        expect(code, complained).toBe(0);
        expect([...await posts()]).toEqual(expected);
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
});
