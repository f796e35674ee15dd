/** What becomes of a key after a check, and of the lists of models: the database's side. */
import type postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { addKey, addModel, clearLedger } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";

let database: TestDatabase;
let sql: postgres.Sql;
let key: string;
beforeAll(async () => {
  database = await cloneDatabase();
  sql = database.sql;
});
afterAll(() => database?.drop());
beforeEach(async () => {
  await clearLedger(sql);
  await empty(sql, "eve.key_checks", "eve.key_models");
  key = await addKey(sql, "one");
  await addModel(sql, "m");
});

async function checked(outcome: string, reason: string | null = null): Promise<string> {
  const [row] = await sql`select public.eve_key_checked(${key}, ${outcome}, ${reason}, 'said so') as answer`;
  return row!.answer.change;
}
async function state() {
  const [row] = await sql`
    select is_active, blocked_until is not null as is_blocked, blocked_reason from public.google_ai_api_keys where id = ${key}`;
  return { ...row };
}
const WORKS = { is_active: true, is_blocked: false, blocked_reason: null };
const openAlerts = async () =>
  (await sql`select kind from eve.alerts where closed_at is null order by kind`).map((row) => row.kind);
const putOff = (reason: string) =>
  sql`update public.google_ai_api_keys set is_active = false, blocked_until = 'infinity', blocked_reason = ${reason}`;

describe("a key", () => {
  test("that works is left alone, and since when is remembered", async () => {
    expect(await checked("works")).toBe("none");
    const [first] = await sql`select works_since from eve.key_checks`;
    expect(await checked("works")).toBe("none");
    expect(await checked("unclear")).toBe("none");
    expect(await state()).toEqual(WORKS);
    expect(await sql`select works_since, outcome, detail from eve.key_checks`).toEqual([
      { works_since: first!.works_since, outcome: "unclear", detail: "said so" },
    ]);
  });

  test.each(["key_invalid", "key_leaked", "key_suspended", "service_disabled"])(
    "that upstream rejects (%s) is switched off, with an alert",
    async (reason) => {
      expect(await checked("rejected", reason)).toBe("disabled");
      expect(await state()).toEqual({ is_active: false, is_blocked: true, blocked_reason: reason });
      expect(await openAlerts()).toEqual(["key_disabled"]);
      expect(await checked("rejected", reason)).toBe("none");
      const [granted] = await sql`select public.eve_reserve('r', '{m}', 1) as answer`;
      expect(granted!.answer).toMatchObject({ status: "refused", code: "no_active_key" });
    },
  );

  test.each(["secret_missing", "service_disabled", "key_restricted"])(
    "that was off for a reason that has passed (%s) comes back",
    async (reason) => {
      await putOff(reason);
      await sql`select eve.open_alert('key_disabled', ${key}, 'critical', 'off')`;
      expect(await sql`select public.eve_key_checks() as keys`).toMatchObject([{ keys: [{ id: key }] }]);
      expect(await checked("works")).toBe("enabled");
      expect(await state()).toEqual(WORKS);
      expect(await openAlerts()).toEqual([]);
    },
  );

  test.each(["key_leaked", "key_suspended", "key_invalid", "credits_depleted", null])(
    "that was off for good (%s) stays off, even if upstream takes it again",
    async (reason) => {
      await putOff(reason ?? "");
      if (reason === null) {
        await sql`update public.google_ai_api_keys set blocked_until = null, blocked_reason = null`;
      }
      expect(await sql`select public.eve_key_checks() as keys`).toEqual([{ keys: [] }]);
      expect(await checked("works")).toBe("none");
      expect((await state()).is_active).toBe(false);
    },
  );

  test("that was disabled for a worse reason meanwhile stays off", async () => {
    await putOff("service_disabled");
    await sql`select public.eve_key_checks()`;
    await putOff("key_leaked");
    expect(await checked("works")).toBe("none");
    expect(await state()).toMatchObject({ is_active: false, blocked_reason: "key_leaked" });
  });

  test("that a person has switched on again is used again once it works", async () => {
    await putOff("key_invalid");
    await sql`update public.google_ai_api_keys set is_active = true`;
    await checked("works");
    expect(await state()).toEqual(WORKS);
  });

  test("without its secret is marked, used by nobody, and back with it", async () => {
    expect(await checked("secret_missing", "secret_missing")).toBe("disabled");
    expect(await state()).toEqual({ is_active: true, is_blocked: true, blocked_reason: "secret_missing" });
    expect(await openAlerts()).toEqual(["secret_missing"]);
    expect(await checked("secret_missing", "secret_missing")).toBe("none");
    expect(await checked("works")).toBe("enabled");
    expect(await state()).toEqual(WORKS);
    expect(await openAlerts()).toEqual([]);
  });

  test("that has been deleted leaves nothing behind", async () => {
    await checked("works");
    await sql`select public.eve_models_seen(${key}, '{m}')`;
    await sql`delete from public.google_ai_api_keys`;
    expect(await checked("works")).toBe("none");
    expect(await sql`select from eve.key_checks`).toHaveLength(0);
    expect(await sql`select from eve.key_models`).toHaveLength(0);
  });
});

describe("the list of models", () => {
  async function seen(...models: string[]) {
    const [row] = await sql`select public.eve_models_seen(${key}, ${models}) as answer`;
    return row!.answer;
  }
  async function compared() {
    const [row] = await sql`select public.eve_models_compared() as answer`;
    return row!.answer;
  }

  test("is no news at first; later it says what appeared and what vanished", async () => {
    expect(await seen("m", "old")).toEqual({ appeared: [], vanished: [], unblocked: [] });
    expect(await seen("m", "new")).toEqual({ appeared: ["new"], vanished: ["old"], unblocked: [] });
    expect(await seen("m", "old")).toEqual({ appeared: ["old"], vanished: ["new"], unblocked: [] });
    expect(
      await sql`select model, vanished_at is null as is_listed from eve.key_models order by model`,
    ).toEqual([
      { model: "m", is_listed: true },
      { model: "new", is_listed: false },
      { model: "old", is_listed: true },
    ]);
  });

  test("that is empty is taken for no list", async () => {
    await seen("m");
    await expect(seen()).rejects.toMatchObject({ code: "EV400" });
    expect(await sql`select from eve.key_models where vanished_at is not null`).toHaveLength(0);
  });

  test("frees a model that was not found and is there again, and no other block", async () => {
    await seen("m");
    await sql`
      insert into eve.key_model_blocks (key_id, model, blocked_until, reason) values
        (${key}, 'new', 'infinity', 'model_not_found'), (${key}, 'newer', 'infinity', 'no_quota')`;
    expect((await seen("m", "new", "newer")).unblocked).toEqual(["new"]);
    expect(await sql`select model from eve.key_model_blocks`).toEqual([{ model: "newer" }]);
  });

  test("opens an alert for a model that served and is on no list, until it is listed or replaced", async () => {
    await sql`insert into public.google_ai_model_limits (model, replaced_by) values ('before', 'm')`;
    await addModel(sql, "never");
    await seen("m", "n");
    expect(await compared()).toEqual({ vanished: [], unlisted: ["never"] });
    expect(await openAlerts()).toEqual([]);
    await seen("n");
    expect(await compared()).toEqual({ vanished: ["m"], unlisted: ["never"] });
    expect(await sql`select subject, message from eve.alerts where closed_at is null`).toEqual([
      { subject: "m", message: expect.stringContaining("it serves for before too") },
    ]);
    // Nothing of the owner's was changed.
    expect(await sql`select replaced_by from public.google_ai_model_limits where model = 'before'`).toEqual([
      { replaced_by: "m" },
    ]);
    await sql`update public.google_ai_model_limits set replaced_by = 'n' where model = 'm'`;
    expect((await compared()).vanished).toEqual([]);
    expect(await openAlerts()).toEqual([]);
  });

  test("of one key is enough", async () => {
    await seen("m");
    const other = await addKey(sql, "two");
    await sql`select public.eve_models_seen(${other}, '{m}')`;
    await seen("n");
    expect((await compared()).vanished).toEqual([]);
  });
});

test("Vault gets the project's URL and key once, and again when they change", async () => {
  const connect = async (url: string, secret: string) =>
    (await sql`select public.eve_connect(${url}, ${secret}) as answer`)[0]!.answer.changed;
  expect(await connect("http://127.0.0.1:54321/", "sb_secret_one")).toEqual([
    "eve_project_url",
    "eve_secret_key",
  ]);
  expect(await connect("http://127.0.0.1:54321", "sb_secret_one")).toEqual([]);
  expect(await connect("http://127.0.0.1:54321", "sb_secret_two")).toEqual(["eve_secret_key"]);
  expect(await sql`select name, decrypted_secret from vault.decrypted_secrets order by name`).toEqual([
    { name: "eve_project_url", decrypted_secret: "http://127.0.0.1:54321" },
    { name: "eve_secret_key", decrypted_secret: "sb_secret_two" },
  ]);
  for (const url of ["", "ftp://x", "127.0.0.1"]) {
    await expect(connect(url, "sb_secret_two")).rejects.toMatchObject({ code: "EV400" });
  }
});
