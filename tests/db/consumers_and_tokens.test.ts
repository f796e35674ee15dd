/** Consumers, their secrets and their tokens, as the SQL functions keep them; under a clock that stands still. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { addKey, addModel, clearLedger, freezeClock, reserve, type TestClock } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { mintConsumerSecret } from "../../shared/tokens/consumer_secret.ts";

let database: TestDatabase;
let sql: TestDatabase["sql"];
let clock: TestClock;
beforeAll(async () => {
  database = await cloneDatabase();
  sql = database.sql;
  clock = await freezeClock(sql);
});
afterAll(() => database?.drop());
beforeEach(async () => {
  await clearLedger(sql);
  await empty(sql, "eve.access_log", "eve.access_refusals", "eve.issue_windows");
  await addModel(sql, "m", { rpm: 100 });
  await addModel(sql, "n");
  await addKey(sql, "one");
  await clock.advance(3_600_000);
});

/** Calls a function by its name with named arguments, as the REST API does. */
// deno-lint-ignore no-explicit-any -- JSON whose fields the tests look at.
async function call(name: string, args: Record<string, unknown> = {}): Promise<any> {
  const names = Object.keys(args);
  const list = names.map((key, place) => `${key} => $${place + 1}`).join(", ");
  const [row] = await sql.unsafe(`select public.${name}(${list}) as answer`, Object.values(args) as string[]);
  return row!.answer;
}

async function add(name: string, options: Record<string, unknown> = {}) {
  const secret = await mintConsumerSecret((options.kind as "service") ?? "notebook");
  const consumer = await call("eve_consumer_add", {
    name,
    kind: secret.kind,
    key_id: secret.keyId,
    proof: secret.proof,
    ...options,
  });
  return { secret, consumer };
}

const authenticate = ({ keyId, proof }: { keyId: string; proof: string }) =>
  call("eve_authenticate_consumer", { key_id: keyId, proof, address: "10.0.0.1" });
const issue = ({ keyId, proof }: { keyId: string; proof: string }, scope: Record<string, unknown> = {}) =>
  call("eve_issue_token", { key_id: keyId, proof, address: "10.0.0.1", ...scope });
const events = async () => (await sql`select event from eve.access_log order by id`).map((row) => row.event);
const refusals = () =>
  sql`select place, code, address, subject, times from eve.access_refusals order by code, subject`;

describe("[security.database-read security.guessing] a secret", () => {
  test("is recognised by its proof, and what is stored is neither", async () => {
    const { secret, consumer } = await add("bot", { kind: "service" });
    expect(await authenticate(secret)).toEqual({
      status: "known",
      consumer_id: consumer.id,
      name: "bot",
      kind: "service",
    });
    const [row] = await sql`select c::text as kept from eve.consumers c where name = 'bot'`;
    expect(row!.kept).not.toContain(secret.proof);
    expect(row!.kept).not.toContain(secret.text.split("_").at(-1));
  });

  test("that is wrong or nobody's is refused in the same words, and counted", async () => {
    const { secret } = await add("bot", { kind: "service" });
    const stranger = await mintConsumerSecret("service");
    const wrong = await authenticate({ keyId: secret.keyId, proof: stranger.proof });
    expect(wrong).toMatchObject({ status: "refused", code: "credential_invalid" });
    expect(await authenticate(stranger)).toEqual(wrong);
    await authenticate(stranger);
    expect(await refusals()).toEqual([
      { place: "llm-invoke", code: "credential_invalid", address: "10.0.0.1", subject: "", times: 2 },
      { place: "llm-invoke", code: "credential_invalid", address: "10.0.0.1", subject: "bot", times: 1 },
    ]);
  });

  test("rotated: old and new are valid for the grace period, then the new one alone, the one before them never", async () => {
    const { secret: first } = await add("bot", { kind: "service" });
    const second = await mintConsumerSecret("service", first.keyId);
    const third = await mintConsumerSecret("service", first.keyId);
    await call("eve_consumer_rotate", { name: "bot", proof: second.proof, grace_s: 60 });
    await clock.advance(59_999);
    for (const secret of [first, second]) {
      expect(await authenticate(secret)).toMatchObject({ status: "known" });
    }
    await clock.advance(1);
    expect(await authenticate(first)).toMatchObject({ status: "refused" });
    await call("eve_consumer_rotate", { name: "bot", proof: third.proof });
    for (const secret of [second, third]) {
      expect(await authenticate(secret)).toMatchObject({ status: "known" });
    }
    expect(await authenticate(first)).toMatchObject({ status: "refused" });
    await call("eve_consumer_rotate", { name: "bot", proof: first.proof, grace_s: 0 });
    expect(await authenticate(third)).toMatchObject({ status: "refused" });
    expect(await events()).toEqual(["consumer_added", ...Array(3).fill("consumer_rotated")]);
  });

  test("of a disabled consumer is refused as that, and only where it is right", async () => {
    const { secret } = await add("bot", { kind: "service" });
    await call("eve_consumer_enable", { name: "bot", enabled: false });
    expect(await authenticate(secret)).toMatchObject({ code: "consumer_disabled" });
    expect(await authenticate({ ...secret, proof: "0".repeat(64) })).toMatchObject({
      code: "credential_invalid",
    });
    await call("eve_consumer_enable", { name: "bot", enabled: true });
    expect(await authenticate(secret)).toMatchObject({ status: "known" });
    expect(await events()).toEqual(["consumer_added", "consumer_disabled", "consumer_enabled"]);
  });

  test("of a removed consumer is nobody's, and the audit still names it", async () => {
    const { secret } = await add("bot", { kind: "service" });
    await call("eve_consumer_remove", { name: "bot" });
    expect(await authenticate(secret)).toMatchObject({ code: "credential_invalid" });
    expect(await sql`select consumer_name from eve.access_log where event = 'consumer_removed'`).toEqual([
      { consumer_name: "bot" },
    ]);
  });
});

test.each<[string, Record<string, unknown>]>([
  ["a name with a space", { name: "my bot" }],
  ["a name that is taken", { name: "taken" }],
  ["an unknown model", { models: ["m", "typo"] }],
  ["no model at all", { models: [] }],
  ["another kind", { kind: "project" }],
  ["another class", { max_class: "urgent" }],
  ["a limit of nothing a minute", { rpm: 0 }],
  ["a negative budget", { tokens_per_day: -1 }],
  ["tokens for a week", { token_ttl_s: 604_800 }],
  ["a malformed proof", { proof: "secret" }],
])("%s is refused, and nobody added", async (_, wrong) => {
  await add("taken");
  await expect(add("bot", wrong)).rejects.toMatchObject({ code: "EV400" });
  expect((await call("eve_consumers", {})).map((row: { name: string }) => row.name)).toEqual(["taken"]);
});

test("the project itself can be neither rotated, disabled nor removed", async () => {
  for (
    const [name, args] of [
      ["eve_consumer_rotate", { proof: "0".repeat(64) }],
      ["eve_consumer_enable", { enabled: false }],
      ["eve_consumer_remove", {}],
    ] as const
  ) {
    await expect(call(name, { name: "project", ...args })).rejects.toMatchObject({ code: "EV400" });
  }
});

describe("a token", () => {
  test("carries what its consumer may, or less", async () => {
    const { secret, consumer } = await add("notes", {
      models: ["m", "n"],
      max_class: "batch",
      token_ttl_s: 600,
    });
    expect(await issue(secret)).toMatchObject({
      status: "issued",
      consumer_id: consumer.id,
      models: ["m", "n"],
      class: "batch",
      requests_budget: null,
    });
    const narrow = await issue(secret, { models: ["m"], requests_budget: 5, tokens_budget: 900, ttl_s: 60 });
    expect(narrow).toMatchObject({ models: ["m"], requests_budget: 5, tokens_budget: 900 });
    expect(narrow.expires_at_s - narrow.issued_at_s).toBe(60);
    expect(await events()).toEqual(["consumer_added", "token_issued", "token_issued"]);
  });

  test.each<[string, Record<string, unknown>]>([
    ["another model", { models: ["m", "n"] }],
    ["no model", { models: [] }],
    ["a higher class", { class: "interactive" }],
    ["another class", { class: "urgent" }],
    ["a longer life", { ttl_s: 601 }],
    ["a life too short to be of use", { ttl_s: 59 }],
    ["a negative budget", { requests_budget: -5 }],
  ])("never more: %s", async (_, scope) => {
    const { secret } = await add("notes", { models: ["m"], max_class: "batch", token_ttl_s: 600 });
    expect(await issue(secret, scope)).toMatchObject({ status: "refused", code: "invalid_scope" });
    expect(await refusals()).toMatchObject([{
      place: "issue-kaggle-token",
      code: "invalid_scope",
      subject: "notes",
    }]);
  });

  test("is for notebooks, active ones, under their own name", async () => {
    const bot = await add("bot", { kind: "service" });
    expect(await issue(bot.secret)).toMatchObject({ code: "unauthorized_client" });
    const { secret } = await add("notes");
    expect(await issue(secret, { consumer: "bot" })).toMatchObject({ code: "invalid_client" });
    expect(await issue(secret, { consumer: "notes" })).toMatchObject({ status: "issued" });
    await call("eve_consumer_enable", { name: "notes", enabled: false });
    expect(await issue(secret)).toMatchObject({ code: "unauthorized_client" });
  });

  test("for a consumer named by the project", async () => {
    await add("notes");
    expect(await call("eve_issue_token", { consumer: "notes" })).toMatchObject({ status: "issued" });
    for (const name of ["nobody", "project"]) {
      expect(await call("eve_issue_token", { consumer: name })).toMatchObject({ code: "invalid_client" });
    }
  });

  test("stops at the very next reservation once it is revoked, or its consumer is off or gone", async () => {
    const { secret, consumer } = await add("notes");
    const [first, second] = [await issue(secret), await issue(secret)];
    const ask = (name: string, token: { token_id: string }) =>
      reserve(sql, name, { consumerId: consumer.id, tokenId: token.token_id });
    expect(await ask("a", first)).toMatchObject({ status: "granted" });
    expect(await call("eve_token_revoke", { token_id: first.token_id, reason: "leaked" })).toEqual({
      revoked: [first.token_id],
    });
    expect(await ask("b", first)).toMatchObject({ code: "token_revoked" });
    expect(await ask("c", second)).toMatchObject({ status: "granted" });
    await call("eve_consumer_enable", { name: "notes", enabled: false });
    expect(await ask("d", second)).toMatchObject({ code: "consumer_disabled" });
    await call("eve_consumer_enable", { name: "notes", enabled: true });
    expect(await ask("e", second)).toMatchObject({ status: "granted" });
    await call("eve_consumer_remove", { name: "notes" });
    expect(await ask("f", second)).toMatchObject({ code: "consumer_disabled" });
  });

  test("all of a consumer's are revoked at once, each in the audit; twice is as once", async () => {
    const { secret } = await add("notes");
    const tokens = [await issue(secret), await issue(secret)];
    const { revoked } = await call("eve_token_revoke", { consumer: "notes" });
    expect(revoked.toSorted()).toEqual(tokens.map((token) => token.token_id).toSorted());
    expect(await call("eve_token_revoke", { consumer: "notes" })).toEqual({ revoked: [] });
    expect((await events()).filter((event) => event === "token_revoked")).toHaveLength(2);
    expect(await call("eve_tokens", {})).toEqual([]);
    expect(await call("eve_tokens", { consumer: "notes", include_ended: true })).toMatchObject([
      { state: "revoked" },
      { state: "revoked" },
    ]);
    await expect(call("eve_token_revoke", { token_id: crypto.randomUUID() })).rejects.toMatchObject({
      code: "EV400",
    });
  });

  test("of another consumer is none", async () => {
    const [one, two] = [await add("one"), await add("two")];
    const token = await issue(one.secret);
    expect(await reserve(sql, "a", { consumerId: two.consumer.id, tokenId: token.token_id })).toMatchObject({
      code: "token_revoked",
    });
  });

  test("raced by 50 callers is good for exactly its budget", async () => {
    const { secret, consumer } = await add("notes");
    const { token_id } = await issue(secret, { requests_budget: 7 });
    const answers = await Promise.all(
      Array.from(
        { length: 50 },
        (_, n) => reserve(sql, `r${n}`, { consumerId: consumer.id, tokenId: token_id }),
      ),
    );
    expect(answers.filter(({ status }) => status === "granted")).toHaveLength(7);
    expect(new Set(answers.filter(({ status }) => status === "refused").map(({ code }) => code))).toEqual(
      new Set(["budget_exhausted"]),
    );
    expect(await call("eve_tokens", {})).toMatchObject([{ requests_used: 7, requests_budget: 7 }]);
  });
});

describe("a request_id that another token of the same consumer has used", () => {
  const ANSWER = { text: "for m alone" };
  /** A notebook with two models, and a token of its own for each scope. */
  async function tokens(...scopes: Record<string, unknown>[]) {
    const { secret, consumer } = await add("notes", { models: ["m", "n"] });
    const issued = [];
    for (const scope of scopes) issued.push((await issue(secret, scope)).token_id as string);
    return { consumerId: consumer.id as string, issued };
  }
  const ask = async (consumerId: string, tokenId: string | null, options: Record<string, unknown> = {}) => {
    const { models = ["m"], hash = "same contents", class: asked = "interactive", id = "told" } = options;
    const [row] = await sql`
      select public.eve_reserve(
        request_id => ${id as string}, models => ${models as string[]}, tokens => 10, consumer_id => ${consumerId},
        token_id => ${tokenId}, class => ${asked as string}, request_hash => ${hash as string}
      ) as answer`;
    return row!.answer;
  };
  const answer = (grant: { request_no: number }) =>
    sql`select public.eve_settle(
      request_no => ${grant.request_no}, attempt => 1, outcome => 'succeeded', result => ${sql.json(ANSWER)}
    )`;

  test("within its scope: the stored answer, as with the token that asked first", async () => {
    const { consumerId, issued: [first, renewed] } = await tokens({ models: ["m"] }, { models: ["m"] });
    await answer(await ask(consumerId, first!));
    for (const token of [first!, renewed!]) {
      expect(await ask(consumerId, token)).toMatchObject({
        status: "duplicate",
        same_request: true,
        result: ANSWER,
      });
    }
  });

  test.each(["answered", "still running"])(
    "out of its models, %s: what any other id would get",
    async (state) => {
      const { consumerId, issued: [first, other] } = await tokens({ models: ["m"] }, { models: ["n"] });
      const grant = await ask(consumerId, first!);
      if (state === "answered") await answer(grant);
      const refused = await ask(consumerId, other!);
      expect(refused).toMatchObject({ status: "refused", code: "model_not_allowed", model: "m" });
      expect(refused).toEqual(await ask(consumerId, other!, { id: "never used" }));
    },
  );

  test("out of its models in part: that the id is taken, and nothing of the answer", async () => {
    const { consumerId, issued: [first, other] } = await tokens({}, { models: ["n"] });
    const models = ["m", "n"];
    await answer(await ask(consumerId, first!, { models }));
    expect(await ask(consumerId, other!, { models })).toMatchObject({
      status: "duplicate",
      same_request: false,
      result: null,
    });
    // One whose first model is the one that it may use has been answered by that.
    await answer(await ask(consumerId, first!, { models: ["n", "m"], id: "by n" }));
    expect(await ask(consumerId, other!, { models: ["n", "m"], id: "by n" })).toMatchObject({
      same_request: true,
      result: ANSWER,
    });
  });

  test("out of its class: that the id is taken, and nothing of the answer; the other way round it gets the answer", async () => {
    const { consumerId, issued: [person, machine] } = await tokens({ class: "interactive" }, {
      class: "batch",
    });
    await answer(await ask(consumerId, person!));
    expect(await ask(consumerId, machine!)).toMatchObject({ same_request: false, result: null });
    await answer(await ask(consumerId, machine!, { id: "by batch" }));
    for (const token of [person!, machine!]) {
      expect(await ask(consumerId, token, { id: "by batch" })).toMatchObject({
        same_request: true,
        result: ANSWER,
      });
    }
  });

  test("with other contents: nothing of the answer, whatever its scope", async () => {
    const { consumerId, issued: [first] } = await tokens({});
    await answer(await ask(consumerId, first!));
    expect(await ask(consumerId, first!, { hash: "other contents" })).toMatchObject({
      same_request: false,
      result: null,
    });
  });

  test("a service whose models were narrowed since does not get what it got before", async () => {
    const { consumer } = await add("bot", { kind: "service", models: ["m", "n"] });
    await answer(await ask(consumer.id, null));
    await sql`update eve.consumers set models = '{n}' where id = ${consumer.id}`;
    expect(await ask(consumer.id, null)).toMatchObject({ status: "refused", code: "model_not_allowed" });
  });
});

describe("[security.enrolment-leak] asking for tokens", () => {
  test("ends at ten a minute for a consumer, and opens again", async () => {
    const { secret } = await add("notes");
    for (let n = 0; n < 10; n++) expect(await issue(secret)).toMatchObject({ status: "issued" });
    const refused = await issue(secret);
    expect(refused).toMatchObject({ status: "refused", code: "rate_limited" });
    expect(refused.retry_after_ms).toBeGreaterThan(0);
    await clock.advance(refused.retry_after_ms + 30_000);
    expect(await issue(secret)).toMatchObject({ status: "issued" });
  });

  test("with wrong secrets uses up the address, not the consumer", async () => {
    const { secret } = await add("notes");
    const wrong = { keyId: secret.keyId, proof: "0".repeat(64) };
    for (let n = 0; n < 30; n++) expect(await issue(wrong)).toMatchObject({ code: "invalid_client" });
    expect(await issue(wrong)).toMatchObject({ code: "rate_limited" });
    expect(await issue(secret)).toMatchObject({ code: "rate_limited" });
    expect(await call("eve_issue_token", { key_id: secret.keyId, proof: secret.proof, address: "10.0.0.2" }))
      .toMatchObject({ status: "issued" });
  });
});

describe("[security.wrong-credentials] wrong secrets of one network", () => {
  const wrong = () => ({ keyId: "0".repeat(16), proof: "0".repeat(64) });
  const askToken = ({ keyId, proof }: { keyId: string; proof: string }, address: string | null) =>
    call("eve_issue_token", { key_id: keyId, proof, address });
  const callWith = ({ keyId, proof }: { keyId: string; proof: string }, address: string | null) =>
    call("eve_authenticate_consumer", { key_id: keyId, proof, address });
  const noted = (address: string | null, code = "credential_invalid", place = "llm-invoke") =>
    call("eve_log_refused_token", { code, address, place });
  const codes = (answers: { code: string }[]) => Object.groupBy(answers, ({ code }) => code);
  const rows = async () => {
    const [row] = await sql`
      select (select count(*)::int from eve.access_refusals) as refusals, (select count(*)::int from eve.issue_windows) as windows`;
    return row as unknown as { refusals: number; windows: number };
  };
  /** 400 addresses of one /64. */
  const neighbours = Array.from({ length: 400 }, (_, n) => `2001:db8:1:2:${(n * 163).toString(16)}::${n}`);
  const each = async <Answer>(
    addresses: readonly (string | null)[],
    ask: (address: string | null) => Answer,
  ) => {
    const answers: Awaited<Answer>[] = [];
    for (const address of addresses) answers.push(await ask(address));
    return answers;
  };

  test.each([
    ["203.0.113.7", "203.0.113.7"],
    ["203.0.113.7:51234", "203.0.113.7"],
    ["::ffff:203.0.113.7", "203.0.113.7"],
    ["::FFFF:cb00:7107", "203.0.113.7"],
    ["0:0:0:0:0:ffff:203.0.113.7", "203.0.113.7"],
    ["2001:db8:1:2::1", "2001:db8:1:2::/64"],
    ["2001:DB8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"],
    ["2001:db8:1:3::1", "2001:db8:1:3::/64"],
    ["fe80::1%eth0", "fe80::/64"],
    ["::1", "::/64"],
    ["unknown", ""],
    ["others", ""],
    ["", ""],
    [null, ""],
  ])("%s belongs to %s", async (address, network) => {
    const [row] = await sql`select eve.network_of(${address}) as network`;
    expect(row!.network).toBe(network);
  });

  test.each<[string, (address: string | null) => Promise<{ code: string }>, string]>([
    ["for a token", (address) => askToken(wrong(), address), "invalid_client"],
    ["to call with", (address) => callWith(wrong(), address), "credential_invalid"],
    ["that nobody had to look up", (address) => noted(address), "credential_invalid"],
    [
      "of the project's, for a token",
      (address) => noted(address, "invalid_client", "issue-kaggle-token"),
      "invalid_client",
    ],
  ])("%s, from all over an IPv6 /64: 30 a minute, and a row or two", async (_, ask, code) => {
    const answers = codes(await each(neighbours, ask));
    expect(answers[code]).toHaveLength(30);
    expect(answers.rate_limited).toHaveLength(370);
    expect(answers.rate_limited![0]).toMatchObject({ status: "refused", retry_after_ms: expect.any(Number) });
    expect(await rows()).toEqual({ refusals: 2, windows: 1 });
    // Another network has turns of its own, and so has this one when two minutes have passed.
    expect(await ask("2001:db8:1:3::1")).toMatchObject({ code });
    await clock.advance(120_000);
    expect(await ask(neighbours[0]!)).toMatchObject({ code });
  });

  test("of IPv4 are counted by address, however it is written", async () => {
    const spellings = ["203.0.113.7", "::ffff:203.0.113.7", "203.0.113.7:1024", "::ffff:cb00:7107"];
    const addresses = Array.from({ length: 40 }, (_, n) => spellings[n % spellings.length]!);
    expect(codes(await each(addresses, (address) => callWith(wrong(), address))).rate_limited).toHaveLength(
      10,
    );
    expect(await callWith(wrong(), "203.0.113.8")).toMatchObject({ code: "credential_invalid" });
    expect(await rows()).toEqual({ refusals: 3, windows: 2 });
  });

  test("lock nobody out who has a right one: not of the /64, and for calls not even of the address", async () => {
    const bot = await add("bot", { kind: "service" });
    const notes = await add("notes");
    for (const address of [neighbours[0]!, "203.0.113.7"]) {
      await each(Array(40).fill(address), (address) => callWith(wrong(), address));
      await each(Array(40).fill(address), (address) => askToken(wrong(), address));
      expect(await callWith(bot.secret, address)).toMatchObject({ status: "known", name: "bot" });
    }
    expect(await askToken(notes.secret, neighbours[0]!)).toMatchObject({ status: "issued" });
    expect(await askToken(notes.secret, neighbours[1]!)).toMatchObject({ status: "issued" });
  });

  test("do not count where the secret is right and something else is not", async () => {
    const { secret } = await add("bot", { kind: "service" });
    await call("eve_consumer_enable", { name: "bot", enabled: false });
    const answers = await each(Array(40).fill("203.0.113.7"), (address) => callWith(secret, address));
    expect(Object.keys(codes(answers))).toEqual(["consumer_disabled"]);
    const expired = await each(Array(40).fill("203.0.113.7"), (address) => noted(address, "token_revoked"));
    expect(Object.keys(codes(expired))).toEqual(["token_revoked"]);
  });

  test("of very many networks get so many rows a minute and no more", async () => {
    await sql`update eve.settings set value = 50 where name = 'refusal_rows_per_minute'`;
    try {
      const many = Array.from({ length: 300 }, (_, n) => `2001:db8:${n.toString(16)}::1`);
      const answers = codes(await each(many, (address) => callWith(wrong(), address)));
      // 50 with turns of their own, all others with the turns of one.
      expect(answers.credential_invalid).toHaveLength(80);
      await each(many, (address) => askToken(wrong(), address));
      const { refusals, windows } = await rows();
      expect(refusals).toBeLessThanOrEqual(50 + 4);
      expect(windows).toBeLessThanOrEqual(50 + 2);
      expect(await sql`select sum(times)::int as times from eve.access_refusals`).toEqual([{ times: 600 }]);
      // A right secret is not delayed by the crowd.
      const notes = await add("notes");
      expect(await askToken(notes.secret, "203.0.113.99")).toMatchObject({ status: "issued" });
      await clock.advance(60_000);
      await callWith(wrong(), "203.0.113.98");
      expect(await sql`select address from eve.access_refusals order by minute desc limit 1`).toEqual([
        { address: "203.0.113.98" },
      ]);
    } finally {
      await sql`update eve.settings set value = 1000 where name = 'refusal_rows_per_minute'`;
    }
  });
});

describe("a consumer's own minute", () => {
  const turn = async (id: string, rpm: number) => {
    const [row] = await sql`select eve.consumer_minute_wait(${id}, ${rpm}, ${clock.nowMs()}) as wait`;
    const wait = Number(row!.wait);
    if (wait === 0) await sql`select eve.consumer_minute_take(${id}, ${clock.nowMs()})`;
    return wait;
  };

  test("never holds more than its number, wherever it begins, and says when it has room", async () => {
    const { consumer } = await add("notes");
    const starts: number[] = [];
    let seed = 7;
    for (let n = 0; n < 300; n++) {
      const wait = await turn(consumer.id, 5);
      if (wait === 0) starts.push(clock.nowMs());
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      await clock.advance(wait > 0 && seed % 3 === 0 ? wait : seed % 4_000);
    }
    expect(starts.length).toBeGreaterThan(20);
    for (const [at, start] of starts.entries()) {
      expect(starts.slice(at).filter((other) => other < start + 60_000).length).toBeLessThanOrEqual(5);
    }
  });

  test("has room exactly when it said", async () => {
    const { consumer } = await add("notes");
    expect(await turn(consumer.id, 2)).toBe(0);
    await clock.advance(30_500);
    expect(await turn(consumer.id, 2)).toBe(0);
    const wait = await turn(consumer.id, 2);
    expect(wait).toBeGreaterThan(29_000);
    await clock.advance(wait - 1);
    expect(await turn(consumer.id, 2)).toBe(1);
    await clock.advance(1);
    expect(await turn(consumer.id, 2)).toBe(0);
  });
});

describe("what a consumer did today", () => {
  test("is in its row, with a budget and without: answers and thinking too, of Google's day alone", async () => {
    await clock.set("2026-11-19T07:59:00Z");
    const { consumer: notes } = await add("notes", { requests_per_day: 10, tokens_per_day: 1_000 });
    const { consumer: bot } = await add("bot");
    const ask = async (id: string) => {
      const { request_no } = await reserve(sql, crypto.randomUUID(), { consumerId: id, tokens: 10 });
      await call("eve_settle", {
        request_no,
        attempt: 1,
        outcome: "succeeded",
        input_tokens: 12,
        output_tokens: 3,
        thoughts_tokens: 5,
        total_tokens: 20,
      });
    };
    const rows = async () => {
      await call("eve_rollup");
      return (await call("eve_consumers") as Record<string, unknown>[])
        .map((
          row,
        ) => [row.name, row.requests_today, row.tokens_today, row.requests_of_budget, row.tokens_of_budget])
        .filter(([name]) => name === "notes" || name === "bot");
    };
    await ask(notes.id);
    await ask(bot.id);
    expect(await rows()).toEqual([["bot", 1, 20, null, null], ["notes", 1, 20, 1, 20]]);
    // A budget that comes later counts from then on, and takes nothing away from the figures.
    await call("eve_consumer_scope", { name: "bot", changes: { requests_per_day: 5 } });
    await ask(bot.id);
    expect(await rows()).toEqual([["bot", 2, 40, 1, null], ["notes", 1, 20, 1, 20]]);
    // Midnight in Los Angeles.
    await clock.set("2026-11-19T08:00:00Z");
    expect(await rows()).toEqual([["bot", 0, 0, 0, null], ["notes", 0, 0, 0, 0]]);
    await ask(bot.id);
    expect(await rows()).toEqual([["bot", 1, 20, 1, null], ["notes", 0, 0, 0, 0]]);
  });
});

test("consumers come in pages, and are found by a part of their name or tenant", async () => {
  await sql`
    insert into eve.consumers (name, kind) select 'page-' || lpad(n::text, 3, '0'), 'service' from generate_series(1, 120) n`;
  const names: string[] = [];
  let after: string | null = null;
  let pages = 0;
  do {
    const page: { consumers: { name: string }[]; total: number; next_after: string | null } = await call(
      "eve_consumer_page",
      { search: "PAGE-", after, at_most: 50 },
    );
    expect(page.total).toBe(120);
    names.push(...page.consumers.map(({ name }) => name));
    after = page.next_after;
    pages += 1;
  } while (after !== null);
  expect(pages).toBe(3);
  expect(names).toEqual(Array.from({ length: 120 }, (_, n) => `page-${String(n + 1).padStart(3, "0")}`));
  expect(await call("eve_consumer_page", { search: "no such" })).toEqual({
    consumers: [],
    total: 0,
    next_after: null,
  });
});

test("a consumer that somebody else has changed is not changed over, and all of a form is saved or nothing", async () => {
  await add("shared", { rpm: 5 });
  const seen = { rpm: 5, models: null, scopes: ["llm"] };
  const change = (more: Record<string, unknown>) =>
    call("eve_consumer_change", { name: "shared", seen, ...more });
  await expect(change({ changes: { rpm: 7 }, scopes: ["unknown"] })).rejects.toMatchObject({ code: "EV400" });
  const saved = await Promise.allSettled([
    change({ changes: { rpm: 6 }, scopes: ["llm", "media"] }),
    change({ changes: { rpm: 7 } }),
  ]);
  expect(saved.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
  expect(saved.find(({ status }) => status === "rejected")).toMatchObject({ reason: { code: "EV409" } });
});
