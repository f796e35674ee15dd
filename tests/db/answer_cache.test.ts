/** Answers that are kept, over a real database: by whom they are found, once for calls that come together, and until when. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import postgres from "postgres";
import type { CacheOutcome, GatewayRequest } from "../../shared/contract/request.ts";
import type { Caller } from "../../shared/contract/caller.ts";
import type { GatewayEvent } from "../../shared/contract/events.ts";
import type { Candidate } from "../../shared/contract/content.ts";
import { createCacheAdmin, createCachedAnswers } from "../../shared/database/answer_cache.ts";
import { readMetrics } from "../../shared/database/maintenance/metrics.ts";
import { createBatches } from "../../shared/database/jobs/batches.ts";
import { directTransport } from "../../shared/database/transport/direct_transport.ts";
import { createAnswerCache } from "../../shared/gateway/cache/answer_cache.ts";
import { cacheKey } from "../../shared/gateway/cache/cache_key.ts";
import { createGateway } from "../../shared/gateway/invoke.ts";
import { createJobMedia } from "../../shared/media/job_media.ts";
import { openMedia } from "../../shared/media/open.ts";
import type { ProviderAnswer } from "../../shared/providers/provider.ts";
import { systemClock } from "../../shared/runtime/clock.ts";
import { addModel, freezeClock, type TestClock } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { addConsumer } from "../harness/jobs.ts";
import { ANSWER, chunksOf, grant, REQUEST, scriptedGateway } from "../unit/gateway/gateway_fixture.ts";

const MODEL = "gemma-4-31b-it";
const OTHER = "gemini-2.5-flash";
const START = Date.parse("2026-11-18T12:00:00Z");
const PROJECT: Caller = { kind: "project", consumerId: null, tokenId: null, name: "default" };

let db: TestDatabase;
let sql: postgres.Sql;
let clock: TestClock;
const transports: ReturnType<typeof directTransport>[] = [];
beforeAll(async () => {
  db = await cloneDatabase();
  sql = postgres(db.url, { max: 4, onnotice: () => {} });
  clock = await freezeClock(sql);
  await empty(sql, "public.google_ai_model_limits");
  await addModel(sql, MODEL);
  await addModel(sql, OTHER);
});
afterAll(async () => {
  await Promise.all(transports.map(({ close }) => close()));
  await sql?.end({ timeout: 5 });
  await db?.drop();
});
beforeEach(async () => {
  await clock.set(START);
  await empty(
    sql,
    "eve.cached_answers",
    "eve.cache_hours",
    "eve.consumer_caches",
    "eve.scoped_tokens",
    "eve.request_keys",
  );
  await sql`delete from eve.consumers where kind <> 'project'`;
  await sql`update eve.cache_limits set max_bytes = 104857600`;
  await sql`update public.google_ai_model_limits set replaced_by = null`;
});

const consumer = async (name: string, columns: Record<string, unknown> = {}): Promise<Caller> => ({
  kind: "service",
  consumerId: await addConsumer(sql, name, columns),
  tokenId: null,
  name,
});

/** One instance of the gateway, with connections of its own; the model is scripted. */
function instance(generate: () => Promise<ProviderAnswer> = () => Promise.resolve(ANSWER), model = MODEL) {
  const transport = directTransport({ url: db.url, connections: 8, pooler: false });
  transports.push(transport);
  const { call } = transport;
  const scripted = scriptedGateway({
    reservations: Array.from({ length: 40 }, () => grant({ model, requestedModel: model })),
    generate,
    stream: (given) => chunksOf("Кон", `церт ${given.prompt.contents.length}`),
  });
  const log = scripted.parts.log;
  const opened = openMedia({
    read: () => undefined,
    call,
    projectUrl: "http://127.0.0.1:1",
    secrets: ["s"],
    fetch,
    clock: systemClock,
    background: scripted.parts.background,
    log,
    now: Date.now,
    random: Math.random,
  });
  const cache = createAnswerCache({
    answers: createCachedAnswers(call, 8_000),
    media: createJobMedia({
      tenantOf: createBatches(call).tenantOf,
      media: async () => (await opened.seed(), opened.media),
      user: "cache",
    }),
    clock: systemClock,
    log,
  });
  const gateway = createGateway({ ...scripted.parts, cache, clock: systemClock });
  const outcomes: CacheOutcome[] = [];
  const context = (caller: Caller, signal: AbortSignal) => ({
    caller,
    signal,
    receivedAt: systemClock.now(),
    noteCache: (outcome: CacheOutcome) => void outcomes.push(outcome),
  });
  const request = (more: Partial<GatewayRequest>): GatewayRequest => ({
    ...REQUEST,
    cacheTtlS: 3_600,
    ...more,
  });
  const kept = async () => {
    for (let done = 0; done < scripted.background.length;) {
      done = scripted.background.length;
      await Promise.all(scripted.background);
    }
  };
  return {
    ...scripted,
    cache,
    kept,
    last: () => outcomes.at(-1),
    async ask(more: Partial<GatewayRequest> = {}, caller = PROJECT, signal = new AbortController().signal) {
      return await gateway.invoke(request(more), context(caller, signal));
    },
    async read(more: Partial<GatewayRequest> = {}, caller = PROJECT) {
      const events: GatewayEvent[] = [];
      for await (
        const event of gateway.stream(request(more), context(caller, new AbortController().signal))
      ) {
        events.push(event);
      }
      return events;
    },
  };
}

const textOf = (events: GatewayEvent[]) =>
  events.flatMap((event) => event.type === "delta" ? event.chunk.candidates?.[0]?.content?.parts ?? [] : [])
    .map(({ text }) => text ?? "").join("");
const said = (text: string, more: Partial<Candidate> = {}): ProviderAnswer => ({
  ...ANSWER,
  answer: {
    candidates: [{ content: { role: "model", parts: [{ text }] }, finishReason: "STOP", ...more }],
    modelVersion: "v",
  },
});

describe("[native.cache] a question that was answered", () => {
  test("is answered from what is kept: no reservation, no call, the same answer, whole or in pieces", async () => {
    const long = "Привет, концерт! ".repeat(60);
    const one = instance(() => Promise.resolve(said(long)));
    const first = await one.ask();
    expect(one.last()).toMatchObject({ status: "miss", stored: true });
    await one.kept();
    await clock.advance(12_000);
    const second = await one.ask({ id: "r2" });
    expect(one.last()).toMatchObject({ status: "hit", ageS: 12, leftS: 3_588 });
    expect(second).toMatchObject({
      requestId: "r2",
      answer: first.answer,
      usage: first.usage,
      attempts: 0,
      limits: null,
    });
    const events = await one.read({ id: "r3" });
    expect([textOf(events), events.filter(({ type }) => type === "delta").length > 5]).toEqual([long, true]);
    expect(events.at(-1)).toMatchObject({
      type: "done",
      result: { finishReason: "STOP", answer: first.answer },
    });
    expect([one.reserved.length, one.calls.length, one.settlements.length]).toEqual([1, 1, 1]);
  });

  test("that was stored from a stream is found whole, by another instance", async () => {
    const one = instance();
    expect(textOf(await one.read())).toBe("Концерт 1");
    await one.kept();
    const two = instance();
    expect((await two.ask()).answer.candidates).toMatchObject([{
      content: { parts: [{ text: "Концерт 1" }] },
      finishReason: "STOP",
    }]);
    expect([two.last(), two.reserved]).toMatchObject([{ status: "hit" }, []]);
  });

  test("in any other way is another question", async () => {
    const one = instance();
    await one.ask();
    await one.kept();
    const contents = REQUEST.prompt.contents;
    const others: Partial<GatewayRequest>[] = [
      { models: [OTHER] },
      { prompt: { contents: [{ role: "user", parts: [{ text: "Что завтра?" }] }] } },
      { prompt: { contents, systemInstruction: { parts: [{ text: "Кратко." }] } } },
      { prompt: { contents, generationConfig: { maxOutputTokens: 9 } } },
      { prompt: { contents, generationConfig: { responseJsonSchema: { type: "object" } } } },
      { prompt: { contents, tools: [{ functionDeclarations: [{ name: "f" }] }] } },
      { schemaRepair: true },
    ];
    for (const other of others) {
      await one.ask(other);
      expect(one.last(), JSON.stringify(other)).toMatchObject({ status: "miss" });
    }
    await one.ask();
    expect(one.last()).toMatchObject({ status: "hit" });
  });

  test("is asked again when its time is over, or when who asks wants it fresher", async () => {
    const one = instance();
    await one.ask({ cacheTtlS: 60 });
    await one.kept();
    await clock.advance(30_000);
    await one.ask({ cacheTtlS: 20 });
    expect(one.last()).toMatchObject({ status: "miss" });
    await one.kept();
    await clock.advance(19_999);
    await one.ask({ cacheTtlS: 3_600 });
    expect(one.last()).toMatchObject({ status: "hit" });
    await clock.advance(1);
    await one.ask({ cacheTtlS: 3_600 });
    expect(one.last()).toMatchObject({ status: "miss" });
  });

  test("with a picture is kept with the media, and the picture goes when the answer does", async () => {
    const data = "iVBORw0KGgo".repeat(40_000);
    const picture: ProviderAnswer = {
      ...ANSWER,
      answer: {
        candidates: [{
          content: { parts: [{ inlineData: { mimeType: "image/png", data } }] },
          finishReason: "STOP",
        }],
      },
    };
    const one = instance(() => Promise.resolve(picture));
    await one.ask();
    await one.kept();
    expect(await sql`select answer, media ~ '^default/[0-9a-f]{64}$' as in_media from eve.cached_answers`)
      .toEqual([{ answer: null, in_media: true }]);
    expect((await one.ask()).answer).toEqual(picture.answer);
    expect(one.last()).toMatchObject({ status: "hit" });
    await createCacheAdmin(directFor().call).flush({ everything: true });
    expect(await sql`select from eve.media_references`).toHaveLength(0);
    expect(await sql`select refs_count from public.media_objects`).toEqual([{ refs_count: 0 }]);
    await empty(sql, "public.media_objects", "eve.media_spool", "eve.media_spool_chunks").catch(() => {});
  });

  test.each<[string, ProviderAnswer]>([
    ["was cut off", { ...said("Кон", { finishReason: "MAX_TOKENS" }), finishReason: "MAX_TOKENS" }],
    ["was blocked", {
      ...said("", { finishReason: "SAFETY" }),
      verdict: { ok: false, code: "content_blocked", reason: "SAFETY" },
    }],
    ["is empty", { ...said(" "), verdict: { ok: false, code: "empty_answer", reason: "STOP" } }],
  ])("is asked again where its answer %s", async (_, answer) => {
    const one = instance(() => Promise.resolve(answer));
    await one.ask();
    await one.kept();
    expect(one.last()).toMatchObject({ status: "miss", stored: false });
    expect(await sql`select from eve.cached_answers`).toHaveLength(0);
  });
});

describe("[native.cache] who finds an answer", () => {
  test("is the consumer that asked; of a tenant those that share", async () => {
    await sql`insert into eve.tenants (id, name) values ('acme', 'Acme') on conflict do nothing`;
    const [a, b, c, d] = await Promise.all([
      consumer("a"),
      consumer("b"),
      consumer("c", { tenant_id: "acme" }),
      consumer("d", { tenant_id: "acme" }),
    ]);
    const one = instance();
    const statuses: Record<string, string | undefined> = {};
    const asked = async (name: string, caller: Caller) => {
      await one.ask({}, caller);
      await one.kept();
      statuses[name] = one.last()?.status;
    };
    await asked("a", a!);
    await asked("b", b!);
    await asked("project", PROJECT);
    await asked("c alone", c!);
    await asked("d alone", d!);
    const admin = createCacheAdmin(directFor().call);
    for (const name of ["b", "c", "d"]) await admin.setConsumer(name, 60, true);
    await asked("c", c!);
    await asked("d", d!);
    await asked("b of another tenant", b!);
    await asked("a again", a!);
    expect(statuses).toEqual({
      "a": "miss",
      "b": "miss",
      "project": "miss",
      "c alone": "miss",
      "d alone": "miss",
      "c": "miss",
      "d": "hit",
      "b of another tenant": "miss",
      "a again": "hit",
    });
  });

  test("may still call: one that is off, a token that was revoked or has no such model get none, and are refused as ever", async () => {
    const a = await consumer("a");
    const one = instance();
    await one.ask({}, a);
    await one.kept();
    const token = async (columns: Record<string, unknown>) => {
      const id = crypto.randomUUID();
      await sql`insert into eve.scoped_tokens ${
        sql({
          id,
          consumer_id: a.consumerId,
          class: "batch",
          issued_at: new Date(START),
          expires_at: new Date(START + 3_600_000),
          ...columns,
        })
      }`;
      return { ...a, kind: "notebook" as const, tokenId: id };
    };
    const tokens = {
      "all models": await token({}),
      "this model": await token({ models: [MODEL] }),
      "another model": await token({ models: [OTHER] }),
      "revoked": await token({ revoked_at: new Date(START) }),
      "expired": await token({ expires_at: new Date(START - 1) }),
    };
    const outcomes: Record<string, unknown> = {};
    for (const [name, caller] of Object.entries(tokens)) {
      const before = one.reserved.length;
      await one.ask({}, caller);
      outcomes[name] = [one.last()?.status, one.reserved.length - before];
    }
    await sql`update eve.consumers set is_active = false where id = ${a.consumerId}`;
    await one.ask({}, a);
    outcomes["switched off"] = [one.last()?.status, 1];
    // A reservation was asked for, and that is what refuses.
    expect(outcomes).toEqual({
      "all models": ["hit", 0],
      "this model": ["hit", 0],
      "another model": ["bypass", 1],
      "revoked": ["bypass", 1],
      "expired": ["bypass", 1],
      "switched off": ["bypass", 1],
    });
  });

  test("is not who asks for a model that has a successor by now, or repeats a request", async () => {
    const one = instance();
    await one.ask();
    await one.kept();
    await sql`
      insert into eve.request_keys (consumer_id, request_id, request_no, ended_at, state, attempts, requested_model, class, request_hash)
      select c.id, 'mine', 1, now(), 'succeeded', 1, ${MODEL}, 'interactive', 'h' from eve.consumers c where c.kind = 'project'`;
    await one.ask({ id: "mine", idIsClients: true });
    expect(one.last()).toEqual({ status: "bypass", reason: "repeated" });
    await sql`update public.google_ai_model_limits set replaced_by = ${OTHER} where model = ${MODEL}`;
    await one.ask();
    expect(one.last()).toMatchObject({ status: "miss" });
  });
});

describe("[native.cache] whose answers are kept", () => {
  test("says the call; for those that say nothing their consumer's row, but not for chance or what is not to be kept", async () => {
    const [a, off] = [await consumer("a"), await consumer("off")];
    const admin = createCacheAdmin(directFor().call);
    await admin.setConsumer("a", 600, false);
    await admin.setConsumer("off", 0, false);
    const one = instance();
    const prompt = (temperature: number) => ({ ...REQUEST.prompt, generationConfig: { temperature } });
    const asked = async (more: Partial<GatewayRequest>, caller: Caller) => {
      const before = one.reserved.length;
      await one.ask({ cacheTtlS: null, ...more }, caller);
      await one.kept();
      const last = one.last();
      return last?.status === "bypass" ? last.reason : one.reserved.length === before ? "hit" : "asked";
    };
    expect(await asked({}, a)).toBe("asked");
    expect(await asked({}, a)).toBe("hit");
    expect(await asked({ prompt: prompt(0) }, a)).toBe("asked");
    expect(await asked({ prompt: prompt(0.7) }, a)).toBe("temperature");
    expect(await asked({ prompt: prompt(0.7), cacheTtlS: 60 }, a)).toBe("asked");
    expect(await asked({ prompt: prompt(0.7), cacheTtlS: 60 }, a)).toBe("hit");
    expect(await asked({ capture: false }, a)).toBe("capture");
    expect(await asked({ cacheTtlS: 0 }, a)).toBe("asked");
    expect(await asked({ cacheTtlS: 60 }, off)).toBe("off");
    expect(
      await asked({
        stage: { stageType: "POEM", produces: "text", source: "configuration", providerKind: "google" },
      }, a),
    )
      .toBe("stage");
    // Nobody has asked: nothing is looked up, and nothing said.
    const two = instance();
    await two.ask({ cacheTtlS: null });
    expect([
      two.last(),
      await sql`select count(*)::int as n from eve.cached_answers where consumer_id <> ${a.consumerId}`,
    ])
      .toMatchObject([undefined, [{ n: 0 }]]);
  });
});

describe("[native.cache] the same question at once", () => {
  test("is one call, whichever instances the callers have come to", async () => {
    const gate = Promise.withResolvers<void>();
    const generate = async () => {
      await gate.promise;
      return ANSWER;
    };
    const instances = [instance(generate), instance(generate), instance(generate)];
    let waiters = 0;
    for (const { cache: { answers } } of instances) {
      const begin = answers.begin;
      answers.begin = async (question) => {
        const lookup = await begin(question);
        if (lookup.status === "wait") waiters += 1;
        return lookup;
      };
    }
    const asking = instances.flatMap((one) => [one.ask(), one.ask(), one.ask()]);
    // Eight of nine have been told to wait, at least once each.
    await expect.poll(() => waiters).toBeGreaterThanOrEqual(8);
    gate.resolve();
    const answers = await Promise.all(asking);
    expect(instances.flatMap(({ reserved }) => reserved)).toHaveLength(1);
    expect(answers.map(({ answer }) => answer)).toEqual(answers.map(() => ANSWER.answer));
    expect(answers.filter(({ attempts }) => attempts === 0)).toHaveLength(8);
  });

  test("a call that died keeps nobody waiting: another makes the answer when it has not been heard of for a while", async () => {
    const dead = createCachedAnswers(directFor().call, 8_000);
    const one = instance();
    const question = {
      keyHash: await cacheKey(REQUEST),
      models: [MODEL],
      endpoint: "native",
      consumerId: null,
      tokenId: null,
      ttlS: 3_600,
      requestId: null,
      waited: false,
    };
    const lost = await dead.begin(question);
    expect(lost.status).toBe("make");
    const following = one.ask();
    await expect.poll(async () => (await dead.begin(question)).status).toBe("wait");
    expect(one.reserved).toHaveLength(0);
    await clock.advance(15_001);
    await following;
    await one.kept();
    expect([one.reserved.length, one.last()]).toMatchObject([1, { status: "miss", stored: true }]);
    // It was not dead after all, and comes too late.
    if (lost.status === "make") {
      const late = {
        model: MODEL,
        requestedModel: MODEL,
        bytes: 2,
        stored: { answer: "{}" },
        inputTokens: 1,
        outputTokens: 1,
      };
      expect([await dead.renew(lost.id), await dead.keep(lost.id, late)]).toEqual([false, false]);
    }
    await one.ask();
    expect(one.last()).toMatchObject({ status: "hit" });
  });

  test("a call that fails or leaves makes room at once, and who cannot wait asks by themselves", async () => {
    const held = Promise.withResolvers<ProviderAnswer>();
    const leader = instance(() => held.promise);
    const first = leader.ask();
    await expect.poll(async () => (await sql`select from eve.cached_answers`).length).toBe(1);
    const hasty = instance();
    await hasty.ask({ maxWaitMs: 0 });
    expect([hasty.reserved.length, hasty.last()]).toMatchObject([1, { status: "miss", stored: false }]);
    const follower = instance();
    const second = follower.ask();
    held.resolve({ ...ANSWER, verdict: { ok: false, code: "answer_unusable", reason: "OTHER" } });
    await first;
    await second;
    await follower.kept();
    expect([follower.reserved.length, follower.last()]).toMatchObject([1, { status: "miss", stored: true }]);
  });

  test("without a database that answers, the call is served as ever", async () => {
    const one = instance();
    one.cache.answers.begin = () => Promise.reject(new Error("away"));
    expect((await one.ask()).attempts).toBe(1);
    expect(one.logged.map(([event]) => event)).toContain("cache_unavailable");
  });
});

describe("[native.cache] what is kept", () => {
  test("is flushed by model, consumer and key, counted, and bounded: the oldest go first", async () => {
    const a = await consumer("a");
    const one = instance();
    const other = instance(undefined, OTHER);
    await one.ask({}, a);
    await one.ask();
    await other.ask({ models: [OTHER] });
    await Promise.all([one.kept(), other.kept()]);
    await one.ask({}, a);
    const hit = one.last();
    const admin = createCacheAdmin(directFor().call);
    expect(await admin.stats({})).toMatchObject({
      totals: { hits: 1, misses: 3, saved_input_tokens: 9, saved_output_tokens: 3 },
      stored: { answers: 3, media_bytes: 0 },
    });
    expect((await admin.stats({ consumer: "a" })).rows).toMatchObject([{
      consumer: "a",
      model: MODEL,
      hits: 1,
      misses: 1,
    }]);
    expect((await readMetrics(directFor().call)).samples).toEqual(expect.arrayContaining([
      { name: "eve_cache_answers", labels: {}, value: 3 },
    ]));
    expect(await admin.flush({ model: OTHER })).toBe(1);
    expect(await admin.flush({ consumer: "a", model: OTHER })).toBe(0);
    expect(await admin.flush({ key: hit?.status === "hit" ? hit.key : "" })).toBe(2);
    await expect(admin.flush({})).rejects.toMatchObject({ code: "invalid_argument" });

    const sizes: number[] = [];
    for (const text of ["один", "два", "три"]) {
      await clock.advance(1_000);
      await instanceOf(text).then((each) => each.kept());
      const [row] = await sql`select bytes from eve.cached_answers order by created_at desc limit 1`;
      sizes.push(row!.bytes);
    }
    expect(await admin.limit(sizes[1]! + sizes[2]!)).toBe(1);
    expect(await sql`select answer like '%один%' as first from eve.cached_answers`).toEqual([
      { first: false },
      { first: false },
    ]);
    // In time they go, whatever the limit.
    await clock.advance(3_700_000);
    const [gone] =
      await sql`select * from eve.retention_of_cached_answers('eve.cached_answers', 'eve.cached_answers', '-infinity', 100, '{}')`;
    expect(Number(gone!.deleted)).toBe(2);
  });
});

async function instanceOf(text: string) {
  const one = instance(() => Promise.resolve(said(text)));
  await one.ask({ prompt: { contents: [{ role: "user", parts: [{ text }] }] } });
  return one;
}

function directFor() {
  const transport = directTransport({ url: db.url, connections: 2, pooler: false });
  transports.push(transport);
  return transport;
}

test("whose cache is being set, their calls go on: only another change waits", async () => {
  const id = await addConsumer(sql, "is-being-set");
  const seen = { ttl_s: null, by_tenant: null };
  await sql.begin(async (setting) => {
    await setting`select public.eve_cache_set_seen('is-being-set', ${setting.json(seen)}, 60)`;
    // As the foreign keys of a call's rows do.
    expect(await sql`select from eve.consumers where id = ${id} for key share nowait`).toHaveLength(1);
    await expect(sql`select from eve.consumers where id = ${id} for no key update nowait`).rejects
      .toMatchObject({ code: "55P03" });
  });
});
