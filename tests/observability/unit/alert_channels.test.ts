/** Messages to a person: what is sent, and what each way of failing means. The receivers are real servers. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { AlertMessage } from "../../../shared/database/maintenance/alerts.ts";
import { type AlertChannel, cut } from "../../../shared/maintenance/alerts/alert_channel.ts";
import { alertChannels, testAlertChannels } from "../../../shared/maintenance/alerts/alerts.ts";
import { htmlOf } from "../../../shared/maintenance/alerts/telegram_channel.ts";
import { keyBytes } from "../../../shared/events/webhooks/sign.ts";
import { never, type Receiver, startReceiver } from "../receiver.ts";
import { retryAfterMs } from "../../../shared/runtime/retry_after.ts";

const TOKEN = "123456:AAE-a_token";
const NOW = Date.parse("2026-11-21T08:00:00Z");

let receiver: Receiver;
beforeEach(() => {
  receiver = startReceiver();
});
afterEach(() => receiver.stop());

const message = (more: Partial<AlertMessage> = {}): AlertMessage => ({
  deliveryId: 7,
  event: "opened",
  attempt: 1,
  alertId: 3,
  kind: "upstream_errors",
  title: "Upstream fails",
  advice: "Look at eve.attempts.",
  severity: "critical",
  subject: "gemma",
  message: "10 of 12 calls of gemma failed",
  details: { failed: 10 },
  openedAt: "2026-11-21T07:58:30.123+00:00",
  closedAt: null,
  ...more,
});

function channel(name: string, more: Record<string, string> = {}): AlertChannel {
  const variables: Record<string, string> = {
    ...(name === "telegram"
      ? {
        EVE_TELEGRAM_BOT_TOKEN: TOKEN,
        EVE_TELEGRAM_CHAT_ID: "-100200",
        EVE_TELEGRAM_API_URL: `${receiver.url}/`,
      }
      : {
        EVE_ALERT_WEBHOOK_URL: `${receiver.url}/hooks/s3cr3t`,
        EVE_ALERT_WEBHOOK_SECRET: "whsec_c2VjcmV0",
      }),
    ...more,
  };
  const { channels, problems } = alertChannels((name) => variables[name], "ref.supabase.co", () => NOW);
  expect(problems).toEqual([]);
  expect(channels.map(({ name }) => name)).toEqual([name]);
  return channels[0]!;
}

const send = (name: string, said = message(), more: { timeoutMs?: number; signal?: AbortSignal } = {}) =>
  channel(name).send(said, { fetch, signal: new AbortController().signal, ...more });

describe("Telegram", () => {
  test("gets the message as its Bot API wants it", async () => {
    expect(await send("telegram")).toEqual({ ok: true });
    const [{ path, body, headers } = expect.unreachable()] = receiver.received;
    expect(path).toBe(`/bot${TOKEN}/sendMessage`);
    expect(headers.get("content-type")).toContain("application/json");
    expect(JSON.parse(body)).toEqual({
      chat_id: "-100200",
      parse_mode: "HTML",
      link_preview_options: { is_disabled: true },
      disable_notification: false,
      text: "🔴 <b>Upstream fails</b>\n10 of 12 calls of gemma failed\n<i>Look at eve.attempts.</i>\n" +
        "Since 2026-11-21 07:58 UTC · ref.supabase.co",
    });
  });

  test("is sent without a sound when it is over", async () => {
    await send("telegram", message({ event: "closed", closedAt: "2026-11-21T09:03:00Z" }));
    expect(JSON.parse(receiver.received[0]!.body)).toMatchObject({
      disable_notification: true,
      text: "✅ <b>Over: Upstream fails</b>\n10 of 12 calls of gemma failed\n" +
        "From 2026-11-21 07:58 UTC to 2026-11-21 09:03 UTC · ref.supabase.co",
    });
  });

  test("gets nothing that it would take for markup, and nothing too long", () => {
    const text = htmlOf(message({ message: "<b>&".repeat(2_000), title: "a<b", advice: null }), "x&y");
    expect(text).toContain("<b>a&lt;b</b>");
    expect(text).toContain("x&amp;y");
    // Telegram counts what is shown.
    const shown = text.replaceAll(/<\/?[bi]>/g, "").replaceAll(/&(lt|gt|amp);/g, "_");
    expect(shown).not.toMatch(/[<>&]/);
    expect(shown.length).toBeLessThan(4_096);
    expect(text).toContain("…");
  });

  test.each<[string, () => Response, Record<string, unknown>]>([
    [
      "a pause that it asks for",
      () =>
        Response.json({
          ok: false,
          error_code: 429,
          description: "Too Many Requests: retry after 17",
          parameters: { retry_after: 17 },
        }, { status: 429 }),
      {
        error: "status 429: Too Many Requests: retry after 17",
        retryAfterMs: 17_000,
        wholeChannel: true,
      },
    ],
    [
      "a message that it refuses",
      () => Response.json({ ok: false, description: "Bad Request: can't parse entities" }, { status: 400 }),
      { error: "status 400: Bad Request: can't parse entities", retryAfterMs: null, wholeChannel: false },
    ],
    [
      "a chat that has moved",
      () =>
        Response.json({
          ok: false,
          description: "Bad Request: group chat was upgraded",
          parameters: { migrate_to_chat_id: -100777 },
        }, { status: 400 }),
      { error: expect.stringContaining("set EVE_TELEGRAM_CHAT_ID to it") },
    ],
    [
      "a wrong token",
      () => Response.json({ ok: false, description: `Unauthorized bot${TOKEN}` }, { status: 401 }),
      { error: "status 401: Unauthorized bot[redacted]", wholeChannel: true },
    ],
    [
      "a page of a proxy's",
      () => new Response("<html>".padEnd(1_000_000, "x"), { status: 502 }),
      { error: "status 502: an answer that is no JSON", wholeChannel: true },
    ],
    [
      "a redirect",
      () => new Response(null, { status: 302, headers: { location: "http://127.0.0.1:1/" } }),
      { error: "status 302: an answer that is no JSON" },
    ],
    [
      "a 200 that is none",
      () => new Response("welcome to the hotel"),
      { error: "status 200: an answer that is no JSON" },
    ],
  ])("%s is a failure that says so", async (_, respond, expected) => {
    receiver.answer(respond);
    expect(await send("telegram")).toMatchObject({ ok: false, ...expected });
    expect(receiver.received).toHaveLength(1);
  });
});

describe("a webhook", () => {
  test("gets all of it, signed as Standard Webhooks says", async () => {
    receiver.answer(() => new Response(null, { status: 204 }));
    expect(await send("webhook")).toEqual({ ok: true });
    const [{ path, body, headers } = expect.unreachable()] = receiver.received;
    expect(path).toBe("/hooks/s3cr3t");
    expect(JSON.parse(body)).toEqual({
      type: "alert.opened",
      timestamp: "2026-11-21T07:58:30.123+00:00",
      text: "[critical] Upstream fails: 10 of 12 calls of gemma failed",
      data: {
        gateway: "ref.supabase.co",
        alert_id: 3,
        kind: "upstream_errors",
        severity: "critical",
        subject: "gemma",
        title: "Upstream fails",
        message: "10 of 12 calls of gemma failed",
        advice: "Look at eve.attempts.",
        details: { failed: 10 },
        opened_at: "2026-11-21T07:58:30.123+00:00",
        closed_at: null,
      },
    });
    expect(headers.get("webhook-id")).toBe("alert_3_opened");
    expect(headers.get("webhook-timestamp")).toBe(String(NOW / 1000));
    const [version, signature = ""] = headers.get("webhook-signature")!.split(",");
    expect(version).toBe("v1");
    const key = await crypto.subtle.importKey(
      "raw",
      new TextEncoder().encode("secret"), // What c2VjcmV0 is in base64.
      { name: "HMAC", hash: "SHA-256" },
      false,
      ["verify"],
    );
    expect(
      await crypto.subtle.verify(
        "HMAC",
        key,
        Uint8Array.from(atob(signature), (c) => c.charCodeAt(0)),
        new TextEncoder().encode(`alert_3_opened.${NOW / 1000}.${body}`),
      ),
    ).toBe(true);
  });

  test("without a secret is not signed", async () => {
    const plain = channel("webhook", { EVE_ALERT_WEBHOOK_SECRET: "" });
    await plain.send(message(), { fetch, signal: new AbortController().signal });
    expect(receiver.received[0]!.headers.has("webhook-signature")).toBe(false);
  });

  test.each<[number, Record<string, string>, Record<string, unknown>]>([
    [500, {}, { error: "status 500", retryAfterMs: null, wholeChannel: true }],
    [429, { "retry-after": "60" }, { retryAfterMs: 60_000, wholeChannel: true }],
    [503, { "retry-after": "Sat, 21 Nov 2026 08:02:00 GMT" }, { retryAfterMs: 120_000 }],
    [410, {}, { wholeChannel: true }],
    [422, {}, { wholeChannel: false }],
    [307, { location: "http://127.0.0.1:1/" }, { error: "status 307: a redirect, which is not followed" }],
  ])("that answers %d has failed", async (status, headers, expected) => {
    receiver.answer(() => new Response(null, { status, headers }));
    expect(await send("webhook")).toMatchObject({ ok: false, ...expected });
  });
});

describe.each(["telegram", "webhook"])("%s", (name) => {
  const secrets = [TOKEN, "s3cr3t", "c2VjcmV0"];

  test("that hangs is given up in time", async () => {
    receiver.answer(never);
    const delivery = await send(name, message(), { timeoutMs: 100 });
    expect(delivery).toMatchObject({ ok: false, error: "no answer within 0.1 s", wholeChannel: true });
  });

  test("that is not there is a failure that names no address", async () => {
    const gone = startReceiver();
    await gone.stop();
    const away = channel(
      name,
      name === "telegram"
        ? { EVE_TELEGRAM_API_URL: gone.url }
        : { EVE_ALERT_WEBHOOK_URL: `${gone.url}/s3cr3t` },
    );
    const delivery = await away.send(message(), { fetch, signal: new AbortController().signal });
    expect(delivery).toMatchObject({ ok: false, wholeChannel: true });
    for (const secret of [...secrets, "127.0.0.1"]) expect(JSON.stringify(delivery)).not.toContain(secret);
  });

  test("ends with the run", async () => {
    receiver.answer(never);
    await expect(send(name, message(), { signal: AbortSignal.timeout(50) })).rejects.toThrow();
  });
});

describe("settings", () => {
  const read = (variables: Record<string, string>) => alertChannels((name) => variables[name], "here");

  test("nothing need be set", () => expect(read({})).toEqual({ channels: [], problems: [] }));

  test.each<[string, Record<string, string>, string]>([
    ["a token without a chat", { EVE_TELEGRAM_BOT_TOKEN: TOKEN }, "EVE_TELEGRAM_CHAT_ID is not set"],
    ["a chat without a token", { EVE_TELEGRAM_CHAT_ID: "1" }, "EVE_TELEGRAM_BOT_TOKEN is not set"],
    ["a token that is none", {
      EVE_TELEGRAM_BOT_TOKEN: "a/../b",
      EVE_TELEGRAM_CHAT_ID: "1",
    }, "not of the form"],
    ["no address", { EVE_ALERT_WEBHOOK_URL: "hooks.example/s3cr3t" }, "EVE_ALERT_WEBHOOK_URL is no http"],
    ["another protocol", { EVE_ALERT_WEBHOOK_URL: "file:///s3cr3t" }, "EVE_ALERT_WEBHOOK_URL is no http"],
  ])("%s is a problem that is reported to the owner, without its value", (_, variables, problem) => {
    const { channels, problems } = read(variables);
    expect(channels).toEqual([]);
    expect(problems.join()).toContain(problem);
    for (const secret of [TOKEN, "s3cr3t", "a/../b"]) expect(problems.join()).not.toContain(secret);
  });

  test("one channel that is set up wrong does not clearTimer the other", () => {
    const { channels, problems } = read({
      EVE_TELEGRAM_CHAT_ID: "1",
      EVE_ALERT_WEBHOOK_URL: "https://example/",
    });
    expect(channels.map(({ name }) => name)).toEqual(["webhook"]);
    expect(problems).toHaveLength(1);
  });
});

test("a text is cut between characters", () => {
  expect(cut("abc", 3)).toBe("abc");
  expect(cut("abcd", 3)).toBe("ab…");
  expect(cut("a😀cd", 3)).toBe("a…");
});

test.each<[string | null, number | null]>([
  ["5", 5_000],
  ["Sat, 21 Nov 2026 08:01:00 GMT", 60_000],
  ["Sat, 21 Nov 2026 07:00:00 GMT", 0],
  ["0.5", 500],
  ["soon", null],
  ["2026", 2_026_000],
  ["99999999999", null],
  ["-5", null],
  [null, null],
])("Retry-After: %s", (header, ms) => {
  expect(retryAfterMs(new Headers(header === null ? {} : { "retry-after": header }), NOW)).toBe(ms);
});

test("a secret is what is after whsec_ in base64, or any text", () => {
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  expect(text(keyBytes("whsec_c2VjcmV0"))).toBe("secret");
  expect(text(keyBytes("whsec_!"))).toBe("whsec_!");
  expect(text(keyBytes("plain"))).toBe("plain");
});

test("a test is sent to each channel, and says which of them does not take it", async () => {
  const variables: Record<string, string> = {
    EVE_TELEGRAM_BOT_TOKEN: TOKEN,
    EVE_TELEGRAM_CHAT_ID: "-100200",
    EVE_TELEGRAM_API_URL: "http://127.0.0.1:9",
    EVE_ALERT_WEBHOOK_URL: `${receiver.url}/hooks/s3cr3t`,
  };
  const channels = alertChannels((name) => variables[name], "ref.supabase.co", () => NOW);
  const at = new Date(NOW).toISOString();
  const said = await testAlertChannels(channels, { fetch, signal: new AbortController().signal }, at);
  expect(said).toEqual({
    problems: [],
    channels: [
      { name: "telegram", error: "it could not be reached, or broke off" },
      { name: "webhook", error: null },
    ],
  });
  expect(JSON.stringify(said)).not.toContain(TOKEN);
  expect(receiver.received).toHaveLength(1);
});
