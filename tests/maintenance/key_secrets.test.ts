/** A key that upstream has rejected, and what brings it back: the database's side. */
import type postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { secretHash } from "../../shared/secrets/key_facts.ts";
import { addKey, addModel, clearLedger } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";

let database: TestDatabase;
let sql: postgres.Sql;
let key: string;
let mistyped: string;
let right: string;
beforeAll(async () => {
  database = await cloneDatabase();
  sql = database.sql;
});
afterAll(() => database?.drop());
beforeEach(async () => {
  await clearLedger(sql);
  await empty(sql, "eve.key_checks", "eve.rejected_secrets", "eve.key_model_blocks");
  key = await addKey(sql, "one");
  await addModel(sql, "m");
  [mistyped, right] = await Promise.all([secretHash(key, "mistyped"), secretHash(key, "right")]);
});

/** As the gateway settles a call that upstream refused for its key. */
async function rejectedInACall(hash: string | null = mistyped) {
  const [row] = await sql`select public.eve_reserve(${crypto.randomUUID()}, '{m}', 1) as grant`;
  const { request_no } = row!.grant;
  const block = { scope: "key", until: "forever", reason: "key_invalid", secret_hash: hash };
  await sql`
    select public.eve_settle(
      request_no => ${request_no}, attempt => 1, outcome => 'failed', final => true, dispatched => true,
      error_code => 'upstream_unavailable', block => ${sql.json(block)})`;
}
async function found(hash: string): Promise<string> {
  const [row] = await sql`select public.eve_key_secret_changed(${key}, ${hash}) as answer`;
  return row!.answer.change;
}
async function checked(outcome: string, hash: string | null): Promise<string> {
  const [row] = await sql`
    select public.eve_key_checked(${key}, ${outcome}, 'key_invalid', secret_hash => ${hash}) as answer`;
  return row!.answer.change;
}
async function isOn(): Promise<boolean> {
  const [row] = await sql`
    select is_active and blocked_until is null and blocked_reason is null as is_on
    from public.google_ai_api_keys where id = ${key}`;
  return row!.is_on;
}
const awaiting = async () => {
  const [row] = await sql`select public.eve_keys_awaiting_secrets() as keys`;
  return row!.keys;
};
const toCheck = async () => {
  const [row] = await sql`select public.eve_key_checks() as keys`;
  return row!.keys;
};
const openAlerts = async () =>
  (await sql`select kind from eve.alerts where closed_at is null`).map((row) => row.kind);

test("a key that a call found rejected is back with another secret, and its alert is closed", async () => {
  await sql`insert into eve.key_model_blocks values (${key}, 'other', 'infinity', 'model_not_found')`;
  await rejectedInACall();
  expect(await openAlerts()).toEqual(["key_disabled"]);
  expect(await awaiting()).toMatchObject([{ id: key, rejected: [mistyped] }]);
  expect(await found(mistyped)).toBe("none");
  expect(await isOn()).toBe(false);

  expect(await found(right)).toBe("enabled");
  expect(await isOn()).toBe(true);
  expect(await openAlerts()).toEqual([]);
  expect(await sql`select from eve.key_model_blocks`).toHaveLength(0);
  expect(await awaiting()).toEqual([]);
  expect(await found(right)).toBe("none");
});

test("an instance that still has a secret of before does not bring it back", async () => {
  const second = await secretHash(key, "also wrong");
  await rejectedInACall();
  await found(second);
  await rejectedInACall(second);
  expect(await found(mistyped)).toBe("none");
  expect(await found(second)).toBe("none");
  expect(await found(right)).toBe("enabled");
});

test("of a key that was rejected with a secret nobody noted, nothing is known to have changed", async () => {
  await rejectedInACall(null);
  expect(await awaiting()).toEqual([]);
  expect(await found(right)).toBe("none");
  expect(await checked("works", right)).toBe("none");
});

describe("a key that a person has switched off stays off", () => {
  test.each<[string, () => Promise<unknown>]>([
    ["while it worked", () => sql`update public.google_ai_api_keys set is_active = false`],
    ["after upstream had rejected it", async () => {
      await rejectedInACall();
      await sql`
        update public.google_ai_api_keys set is_active = false, blocked_until = null, blocked_reason = null`;
    }],
    ["while it had no secret", async () => {
      await sql`select public.eve_key_checked(${key}, 'secret_missing', 'secret_missing')`;
      await sql`update public.google_ai_api_keys set is_active = false`;
    }],
  ])("%s", async (_when, switchOff) => {
    await switchOff();
    expect(await awaiting()).toEqual([]);
    expect(await toCheck()).toEqual([]);
    expect(await found(right)).toBe("none");
    expect(await checked("works", right)).toBe("none");
    expect(await isOn()).toBe(false);
  });
});

test("a key without a secret is back as soon as somebody has one", async () => {
  await sql`select public.eve_key_checked(${key}, 'secret_missing', 'secret_missing')`;
  expect(await awaiting()).toMatchObject([{ id: key, rejected: [] }]);
  expect(await found(right)).toBe("enabled");
  expect(await isOn()).toBe(true);
  expect(await openAlerts()).toEqual([]);
});

describe("maintenance", () => {
  test("is told with which secrets a rejected key is not worth asking about", async () => {
    expect(await toCheck()).toMatchObject([{ id: key, unless: null }]);
    await rejectedInACall();
    expect(await toCheck()).toMatchObject([{ id: key, is_active: false, unless: [mistyped] }]);
  });

  test("brings back a key whose other secret works, and no other", async () => {
    expect(await checked("rejected", mistyped)).toBe("disabled");
    expect(await checked("works", mistyped)).toBe("none");
    expect(await checked("rejected", right)).toBe("none");
    expect(await checked("works", right)).toBe("none");
    const third = await secretHash(key, "third");
    expect(await checked("works", third)).toBe("enabled");
    expect(await isOn()).toBe(true);
    expect(await openAlerts()).toEqual([]);
  });

  test("forgets a secret that works after all", async () => {
    await checked("rejected", mistyped);
    await sql`update public.google_ai_api_keys set is_active = true`;
    await checked("works", mistyped);
    expect(await sql`select from eve.rejected_secrets`).toHaveLength(0);
  });
});

test("twenty hashes are kept of a key, and none of one that is deleted", async () => {
  for (let n = 0; n < 25; n++) {
    await sql`select eve.remember_rejected_secret(${key}, ${await secretHash(key, `wrong ${n}`)})`;
  }
  expect(await sql`select from eve.rejected_secrets`).toHaveLength(20);
  await sql`select eve.remember_rejected_secret(${key}, 'no hash')`;
  await sql`delete from public.google_ai_api_keys`;
  expect(await sql`select from eve.rejected_secrets`).toHaveLength(0);
});
