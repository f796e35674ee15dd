/** Pages fetched from a small site over real connections, and what is kept of them on a real database. */
import { brotliCompressSync, gzipSync } from "node:zlib";
import postgres from "postgres";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { crawlRunner } from "../../shared/jobs/crawl_runner.ts";
import type { ClaimedJob } from "../../shared/database/jobs/job_leases.ts";
import { createCrawl, createCrawlBooks } from "../../shared/database/posts/crawl.ts";
import { SUMMARY_PROMPT } from "../../shared/api/crawl_routes.ts";
import { type DirectTransport, directTransport } from "../../shared/database/transport/direct_transport.ts";
import { openMedia } from "../../shared/media/open.ts";
import { openObject } from "../../shared/media/read.ts";
import type { Clock } from "../../shared/runtime/clock.ts";
import { freezeClock, type TestClock } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { clearJobs } from "../harness/jobs.ts";
import { PROJECT } from "../harness/media.ts";
import { apiOver, type ApiUnderTest, SECRET } from "../harness/media_api.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const words = "Сегодня вечером в парке играет оркестр, вход свободный, начало в семь часов. ".repeat(12);
const page = (title: string, head = "") =>
  `<!doctype html><html lang="ru"><head>${head}<title>${title}</title></head><body><nav><a href="/">Домой</a></nav>` +
  `<article><h1>${title}</h1><p>${words}</p><p>${words}</p></article><footer>Подвал</footer></body></html>`;
const utf8 = (text: string) => new TextEncoder().encode(text);
/** Of letters that the code page has in one block. */
const windows1251 = (text: string) =>
  Uint8Array.from(text, (letter) => {
    const code = letter.codePointAt(0)!;
    return code >= 0x410 && code <= 0x44f ? code - 0x350 : code < 0x80 ? code : 0x3f;
  });

interface Answer {
  head: string[];
  body?: Uint8Array;
  /** Without content-length and what it would end by. */
  raw?: boolean;
  /** The connection stays open. */
  hangs?: boolean;
}
type Serve = (path: string, headers: Headers, host: string) => Answer;
const html = (body: Uint8Array | string, ...head: string[]): Answer => ({
  head: ["200 OK", "content-type: text/html", ...head],
  body: typeof body === "string" ? utf8(body) : body,
});
const redirect = (to: string, ...head: string[]): Answer => ({
  head: ["302 Found", `location: ${to}`, ...head],
});
const NOT_FOUND: Answer = { head: ["404 Not Found"] };

let database: TestDatabase;
let sql: postgres.Sql;
let clock: TestClock;
let transport: DirectTransport;
let site: Deno.TcpListener;
let port: number;
let serve: Serve;
let asked: string[] = [];
let connected: string[] = [];
/** Names that lead elsewhere than to the site. */
let addresses: Record<string, string[]> = {};
let timers: { ms: number; fire: () => void }[] = [];
const open = new Set<Deno.Conn>();

const still: Clock = {
  now: () => 0,
  sleep: () => Promise.resolve(),
  after(ms, fire) {
    const timer = { ms, fire };
    timers.push(timer);
    return () => void (timers = timers.filter((other) => other !== timer));
  },
};

async function answer(connection: Deno.Conn): Promise<void> {
  open.add(connection);
  try {
    let request = "";
    const buffer = new Uint8Array(4_096);
    while (!request.includes("\r\n\r\n")) {
      const read = await connection.read(buffer);
      if (read === null) return connection.close();
      request += new TextDecoder().decode(buffer.subarray(0, read));
    }
    const [first, ...lines] = request.split("\r\n\r\n")[0]!.split("\r\n");
    const headers = new Headers(lines.map((line) => line.split(/: ?(.*)/s).slice(0, 2) as [string, string]));
    const path = first!.split(" ")[1]!;
    const host = headers.get("host")!;
    asked.push(`${host}${path}`);
    const { head, body = new Uint8Array(), raw, hangs } = serve(path, headers, host);
    const fields = raw ? head : [...head, `content-length: ${body.length}`];
    await connection.write(utf8(`HTTP/1.1 ${fields.join("\r\n")}\r\n\r\n`));
    for (let at = 0; at < body.length;) at += await connection.write(body.subarray(at));
    if (!hangs) connection.close();
  } catch {
    // The other side has gone.
  }
}

beforeAll(async () => {
  database = await cloneDatabase();
  sql = postgres(database.url, { max: 12, onnotice: () => {} });
  clock = await freezeClock(sql);
  transport = directTransport({ url: database.url, connections: 8, pooler: false });
  site = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  port = (site.addr as Deno.NetAddr).port;
  (async () => {
    for await (const connection of site) void answer(connection);
  })().catch(() => {});
});
afterAll(async () => {
  site?.close();
  await transport?.close();
  await sql?.end({ timeout: 5 });
  await database?.drop();
});
beforeEach(async () => {
  await clearJobs(sql);
  await empty(
    sql,
    "public.posts",
    "public.crawl_pages",
    "eve.crawl_hosts",
    "eve.media_references",
    "public.media_objects",
    "eve.events",
    "eve.event_consumers",
    "eve.metric_counters",
  );
  await clock.set("2026-11-18T12:00:00Z");
  asked = [];
  connected = [];
  addresses = {};
  timers = [];
});

function worker() {
  const opened = openMedia({
    read: () => undefined,
    call: transport.call,
    projectUrl: "http://127.0.0.1:1",
    secrets: ["s"],
    fetch: () => Promise.reject(new Error("nothing goes out")),
    clock: still,
    background: () => {},
    log: () => {},
    now: Date.now,
    random: Math.random,
  });
  const run = crawlRunner({
    books: createCrawlBooks(transport.call),
    network: {
      fetch: () => Promise.reject(new Error("nothing goes out")),
      clock: still,
      resolve: (host) => Promise.resolve(addresses[host] ?? ["93.184.216.34"]),
      connect: ({ address }) => {
        connected.push(address);
        return Deno.connect({ hostname: "127.0.0.1", port });
      },
    },
    media: () => Promise.resolve(opened.media),
    now: () => Date.parse("2026-11-18T12:00:00Z"),
  });
  return { media: opened.media, run };
}

interface Asked {
  status: string;
  page: { id: string; state: string };
  job_id: string;
}
async function ask(url: string, mode = "enabled"): Promise<Asked> {
  const { canonicalUrl, domainOf } = await import("../../shared/crawl/canonical_url.ts");
  const canonical_url = canonicalUrl(url)!;
  const asking = { url, canonical_url, domain: domainOf(canonical_url), rules: 1 };
  const [row] = await sql`select public.eve_crawl_ask(${sql.json(PROJECT)}, ${
    sql.json(asking)
  }, ${mode}, trace_id => ${TRACE}) as answer`;
  return row!.answer as Asked;
}

/** Runs the job and ends it as a worker does. */
async function runJob(id: string, signal = new AbortController().signal) {
  const [job] = await sql`select id, body from eve.jobs where id = ${id}`;
  const outcome = await worker().run({ ...job, consumer_id: null, token_id: null } as unknown as ClaimedJob, {
    signal,
    progress: () => {},
  });
  if (outcome.kind === "done") {
    await sql`update eve.jobs set state = 'succeeded', result = ${
      sql.json(outcome.result as never)
    }, finished_at = eve.clock() where id = ${id}`;
  }
  return outcome;
}

async function crawled(url: string, mode = "enabled") {
  const { status, page, job_id } = await ask(url, mode);
  if (status === "found") return { state: page.state, wasCached: true };
  await runJob(job_id);
  const [row] = await sql`
    select p.*, a.text, a.title as article_title from public.crawl_pages p left join public.articles a on a.page_id = p.id
    where p.id = ${page.id}`;
  return row!;
}

describe("a page", () => {
  const big = utf8("x".repeat(10_000_001));
  const cases: [string, Serve, Record<string, unknown>][] = [
    ["plain", () => html(page("Афиша")), {
      state: "fetched",
      charset: "utf-8",
      title: "Афиша",
      article_title: "Афиша",
    }],
    [
      "chunked",
      () => {
        const body = utf8(page("Куски"));
        const half = body.length >> 1;
        const chunk = (bytes: Uint8Array) => [utf8(`${bytes.length.toString(16)}\r\n`), bytes, utf8("\r\n")];
        const parts = [...chunk(body.subarray(0, half)), ...chunk(body.subarray(half)), utf8("0\r\n\r\n")];
        const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
        parts.reduce((at, part) => (joined.set(part, at), at + part.length), 0);
        return { ...html(joined, "transfer-encoding: chunked"), raw: true };
      },
      { state: "fetched", article_title: "Куски" },
    ],
    ["gzip", () => html(gzipSync(utf8(page("Сжатая"))), "content-encoding: gzip"), {
      state: "fetched",
      article_title: "Сжатая",
    }],
    ["brotli", () => html(brotliCompressSync(utf8(page("Бротли"))), "content-encoding: br"), {
      state: "fetched",
      article_title: "Бротли",
    }],
    ["bomb", () => html(gzipSync(new Uint8Array(50_000_000)), "content-encoding: gzip"), {
      state: "too_large",
      text: null,
      html_sha256: null,
    }],
    ["garbled", () => html(utf8("no gzip"), "content-encoding: gzip"), {
      state: "failed",
      reason: "is packed wrongly",
    }],
    [
      "header1251",
      () => ({
        head: ["200 OK", "content-type: text/html; charset=windows-1251"],
        body: windows1251(page("Заголовок")),
      }),
      { charset: "windows-1251", title: "Заголовок" },
    ],
    ["meta1251", () => html(windows1251(page("Мета", '<meta charset="cp1251">'))), {
      charset: "windows-1251",
      title: "Мета",
    }],
    ["sniffed1251", () => html(windows1251(page("Наугад"))), {
      charset: "windows-1251",
      title: "Наугад",
      article_title: "Наугад",
    }],
    ["short", () => ({ ...html(page("Короткая"), "content-length: 100000"), raw: true }), {
      state: "failed",
      reason: "ended before its end",
    }],
    ["large", () => html(big), {
      state: "too_large",
      html_sha256: null,
      reason: "has more than 10000000 bytes",
    }],
    ["pdf", () => ({ head: ["200 OK", "content-type: application/pdf"], body: utf8("%PDF-1.7") }), {
      state: "not_html",
      text: null,
    }],
    ["error", () => ({ head: ["503 Away", "retry-after: 900"] }), { state: "failed", status: 503 }],
    ["nostore", () => html(page("Тайна"), "cache-control: no-store"), {
      state: "not_stored",
      html_sha256: null,
      text: null,
    }],
    ["loop", () => redirect("/"), {
      state: "failed",
      reason: "redirects more than 5 times",
      asked: ["/robots.txt", ...Array(6).fill("/")],
    }],
    [
      "cookies",
      (_, headers) => headers.has("cookie") ? html(page("Вход")) : redirect("/", "set-cookie: seen=1"),
      {
        state: "failed",
        reason: "redirects more than 5 times",
        asked: ["/robots.txt", ...Array(6).fill("/")],
      },
    ],
    ["moved", (path) => path === "/" ? redirect("/new") : html(page("Новая")), {
      state: "fetched",
      final_url: "http://moved.example.com/new",
      asked: ["/robots.txt", "/", "/new"],
    }],
    ["metadata", () => redirect("http://169.254.169.254/latest/meta-data/"), {
      state: "refused",
      reason: "must lead to a public host",
    }],
    ["inside", () => redirect("http://private.example.com/admin"), {
      state: "refused",
    }],
    ["local", () => redirect("http://localhost/"), { state: "refused" }],
    ["file", () => redirect("file:///etc/passwd"), { state: "refused" }],
  ];
  test.each(cases)("%s: is fetched, and kept, as the table says", async (name, answers, expected) => {
    const { asked: paths = ["/robots.txt", "/"], ...row } = expected;
    addresses["private.example.com"] = ["93.184.216.34", "10.0.0.7"];
    serve = (path, headers, host) => path === "/robots.txt" ? NOT_FOUND : answers(path, headers, host);
    expect(await crawled(`http://${name}.example.com/`)).toMatchObject(row);
    // What came of it is answered from the cache for a while, whatever it was.
    expect(await crawled(`http://${name}.example.com/`)).toMatchObject({ wasCached: true });
    expect(asked).toEqual((paths as string[]).map((path) => `${name}.example.com${path}`));
    expect(new Set(connected)).toEqual(new Set(["93.184.216.34"]));
  });

  test.each([
    ["in 900 s", "900", 900],
    ["in half an hour, as a date", "Wed, 18 Nov 2026 12:30:00 GMT", 1_800],
    ["sooner than is asked anyway", "1", 300],
    ["in words that say no time", "soon", 300],
    ["in a day", "86400", 3_600],
  ])("whose server wants to be asked again %s is kept as away for so long", async (_, said, seconds) => {
    serve = (path) => path === "/robots.txt" ? NOT_FOUND : { head: ["503 Away", `retry-after: ${said}`] };
    await crawled("http://away.example.com/");
    const [row] = await sql`
      select extract(epoch from expires_at - updated_at)::integer as seconds from public.crawl_pages`;
    expect(row!.seconds).toBe(seconds);
  });

  test("whose name leads to a private address is not asked for, nor its robots.txt", async () => {
    for (const [place, address] of ["127.0.0.1", "10.1.2.3", "::1", "100.64.0.1"].entries()) {
      addresses[`p${place}.example.com`] = [address];
      expect(await crawled(`http://p${place}.example.com/`)).toMatchObject({ state: "refused" });
    }
    expect({ asked, connected }).toEqual({ asked: [], connected: [] });
  });

  test("that drips is given up when its time is over", async () => {
    serve = (path) =>
      path === "/robots.txt"
        ? NOT_FOUND
        : { ...html(utf8("<html>"), "content-length: 500"), raw: true, hangs: true };
    const { job_id, page } = await ask("http://drip.example.com/");
    const running = runJob(job_id);
    await expect.poll(() => asked.length).toBe(2);
    timers.find(({ ms }) => ms === 30_000)!.fire();
    await running;
    const [row] = await sql`select state, reason from public.crawl_pages where id = ${page.id}`;
    expect(row).toEqual({ state: "failed", reason: "did not arrive within 30000 ms" });
    for (const each of open) {
      try {
        each.close();
      } catch { /* it was */ }
    }
  });

  test("is kept as bytes and as facts, in the kind crawl, and used by its row until that goes", async () => {
    serve = (path) => path === "/robots.txt" ? NOT_FOUND : html(page("Файл"));
    const { html_sha256, id } = await crawled("http://kept.example.com/");
    const objects =
      await sql`select kind, s3_key, content_encoding, refs_count from public.media_objects order by mime_type`;
    expect(
      objects.map(({ kind, content_encoding, refs_count }) => [kind, content_encoding, Number(refs_count)]),
    ).toEqual([
      ["crawl", "gzip", 1],
      ["crawl", "gzip", 1],
    ]);
    expect(objects.map(({ s3_key }) => s3_key.split("/").slice(0, 2).join("/"))).toEqual([
      "crawl/default",
      "crawl/default",
    ]);
    expect(
      await new Response(await openObject(worker().media, { kind: "project" }, "default", html_sha256))
        .text(),
    ).toBe(page("Файл"));
    await sql`delete from public.crawl_pages where id = ${id}`;
    expect(await sql`select from eve.media_references`).toHaveLength(0);
  });
});

describe("the cache", () => {
  test("asks no server while a page is fresh, asks whether it has changed after that, and keeps what it has on 304", async () => {
    const conditions: (string | null)[] = [];
    serve = (path, headers) => {
      if (path === "/robots.txt") return NOT_FOUND;
      conditions.push(headers.get("if-none-match"));
      return headers.get("if-none-match") === '"1"'
        ? { head: ["304 Not Modified", 'etag: "1"', "cache-control: max-age=600"] }
        : html(page("Кэш"), 'etag: "1"', "cache-control: max-age=600");
    };
    const first = await crawled("http://cache.example.com/a?utm_source=tg");
    expect(first).toMatchObject({
      state: "fetched",
      fetches: 1,
      canonical_url: "https://cache.example.com/a",
    });
    await clock.set("2026-11-18T12:09:59Z");
    expect(await crawled("http://cache.example.com/a#x")).toEqual({ state: "fetched", wasCached: true });
    await clock.set("2026-11-18T12:10:01Z");
    expect(await crawled("https://cache.example.com/a")).toMatchObject({
      state: "fetched",
      status: 304,
      fetches: 2,
      html_sha256: first.html_sha256,
      article_title: "Кэш",
    });
    expect(conditions).toEqual([null, '"1"']);
    await clock.set("2026-11-18T12:11:00Z");
    expect(await crawled("https://cache.example.com/a", "write_only")).toMatchObject({
      status: 200,
      fetches: 3,
    });
    expect(conditions).toEqual([null, '"1"', null]);
  });

  test("read_only never fetches; disabled and bypass keep nothing, and say what they found", async () => {
    serve = (path) => path === "/robots.txt" ? NOT_FOUND : html(page("Мимо"));
    expect(await ask("http://modes.example.com/", "read_only")).toEqual({ status: "none" });
    for (const mode of ["disabled", "bypass"]) {
      const { job_id } = await ask("http://modes.example.com/", mode);
      await runJob(job_id);
      const [row] = await sql`select public.eve_crawl_job(${job_id}) as answer`;
      expect(row!.answer).toMatchObject({
        is_done: true,
        page: { id: null, state: "fetched", article: { title: "Мимо" } },
      });
    }
    expect(await sql`select from public.crawl_pages`).toHaveLength(0);
    expect(await sql`select from public.media_objects`).toHaveLength(0);
  });

  test("fetches once what ten ask for at once, also where each has a job of its own", async () => {
    serve = (path) => path === "/robots.txt" ? NOT_FOUND : html(page("Десять"));
    const answers = await Promise.all(Array.from({ length: 10 }, () => ask("http://ten.example.com/")));
    expect(new Set(answers.map(({ job_id }) => job_id)).size).toBe(1);
    const body = { tenant_id: "default", page_id: answers[0]!.page.id, mode: "enabled" };
    const run = worker().run;
    const outcomes = await Promise.all(
      Array.from(
        { length: 10 },
        () =>
          run({ id: crypto.randomUUID(), body, consumer_id: null } as unknown as ClaimedJob, {
            signal: new AbortController().signal,
            progress: () => {},
          }),
      ),
    );
    expect(outcomes.filter(({ kind }) => kind === "done").length).toBeGreaterThan(0);
    expect(asked.sort()).toEqual(["ten.example.com/", "ten.example.com/robots.txt"]);
    expect((await crawled("http://ten.example.com/")).wasCached).toBe(true);
  });
});

describe("a summary", () => {
  const SUMMARY = "В парке играет оркестр.";
  let api: ApiUnderTest;
  let calls: { body: Record<string, string>; authorization: string | null }[];
  let answer: () => Response;
  beforeEach(() => {
    calls = [];
    answer = () => Response.json({ request_id: "r", text: SUMMARY, model: "m" });
    api = apiOver(database, {
      callModels(body, credentials) {
        calls.push({ body: JSON.parse(body), authorization: new Headers(credentials).get("authorization") });
        return Promise.resolve(answer());
      },
    });
    serve = (path) => path === "/robots.txt" ? NOT_FOUND : html(page("Оркестр"));
  });
  afterEach(() => api.close());
  const summarise = async (id: string, body: Record<string, unknown>, init: RequestInit = {}) => {
    const response = await api.call("POST", `/v1/crawl/pages/${id}/summary`, {
      headers: { "content-type": "application/json" },
      ...init,
      body: JSON.stringify(body),
    });
    return { code: response.status, ...await response.json() };
  };

  test("is made when it is asked for, in the caller's name, by the stated prompt; and once for the same words", async () => {
    const { id } = await crawled("http://band.example.com/");
    expect(await summarise(id, { model: "m" })).toMatchObject({
      code: 200,
      from_cache: false,
      page: { id, article: { summary: SUMMARY, summary_model: "m", summary_prompt: SUMMARY_PROMPT } },
    });
    expect(calls).toMatchObject([{
      authorization: `Bearer ${SECRET}`,
      body: { model: "m", system: SUMMARY_PROMPT, prompt: expect.stringContaining("играет оркестр") },
    }]);
    expect(await summarise(id, { model: "m" })).toMatchObject({ code: 200, from_cache: true });
    expect(calls).toHaveLength(1);
    await summarise(id, { model: "m", prompt: "In one word." });
    await summarise(id, { model: "m", prompt: "In one word.", again: true });
    expect(calls.map(({ body }) => body.system)).toEqual([SUMMARY_PROMPT, "In one word.", "In one word."]);

    // A page that says something else by now has none.
    serve = (path) => path === "/robots.txt" ? NOT_FOUND : html(page("Другое"));
    await clock.advance(86_500_000);
    await crawled("http://band.example.com/", "write_only");
    const [row] = await sql`select summary, summary_model, summary_prompt from public.articles`;
    expect(row).toEqual({ summary: null, summary_model: null, summary_prompt: null });
  });

  test("of words that have changed meanwhile is not kept, and what the call was refused for is told", async () => {
    const { id } = await crawled("http://band.example.com/");
    answer = () => Response.json({ error: { code: "rate_limited", message: "Later." } }, { status: 429 });
    expect(await summarise(id, { model: "m" })).toMatchObject({ code: 429, error: { code: "rate_limited" } });
    const made = { textSha256: "0".repeat(64), summary: "of others", model: "m", prompt: "p" };
    const { article } = await createCrawl(api.transport.call).summarised(PROJECT, id, made);
    expect(article!.summary).toBeNull();
  });

  test("needs a model, and something to read", async () => {
    const { id } = await crawled("http://band.example.com/");
    expect(await summarise(id, {})).toMatchObject({ code: 400, error: { code: "invalid_request" } });
    serve = (path) => path === "/robots.txt" ? NOT_FOUND : { head: ["503 Away"] };
    const { id: empty } = await crawled("http://away.example.com/");
    expect(await summarise(empty, { model: "m" })).toMatchObject({
      code: 400,
      error: { code: "invalid_request" },
    });
    expect(await summarise(crypto.randomUUID(), { model: "m" })).toMatchObject({
      code: 404,
      error: { code: "page_not_found" },
    });
    expect(calls).toEqual([]);
  });
});

describe("a server", () => {
  test.each<[string, Answer, Record<string, string>]>([
    ["forbids", { head: ["200 OK"], body: utf8("User-agent: *\nDisallow: /\nAllow: /open") }, {
      "/": "disallowed",
      "/open/1": "fetched",
    }],
    ["names us", {
      head: ["200 OK"],
      body: utf8("User-agent: *\nDisallow:\n\nUser-agent: EVE-Gateway\nDisallow: /*.php$"),
    }, {
      "/a.php": "disallowed",
      "/a.php?b": "fetched",
    }],
    ["has no rules", NOT_FOUND, { "/": "fetched" }],
    ["is away for its rules", { head: ["500 Broken"] }, { "/": "disallowed" }],
  ])("that %s in robots.txt is obeyed, and asked for it once", async (name, robots, paths) => {
    serve = (path) => path === "/robots.txt" ? robots : html(page("Правила"));
    const host = `${name.replaceAll(" ", "-")}.example.com`;
    for (const [path, state] of Object.entries(paths)) {
      expect([path, (await crawled(`http://${host}${path}`)).state]).toEqual([path, state]);
    }
    expect(asked.filter((each) => each.endsWith("/robots.txt"))).toHaveLength(1);
    const fetched = Object.values(paths).filter((state) => state === "fetched").length;
    expect(asked.length - 1).toBe(fetched);
  });

  test("has a second between two of our fetches, however many of us ask; a later turn is not waited for", async () => {
    const turns = await Promise.all(
      Array.from(
        { length: 10 },
        () => createCrawlBooks(transport.call).turn("https://a.example", 1_000, 5_000),
      ),
    );
    const waits = turns.filter(({ is_taken }) => is_taken).map(({ wait_ms }) => wait_ms).sort((a, b) =>
      a - b
    );
    expect(waits).toEqual([0, 1_000, 2_000, 3_000, 4_000, 5_000]);
  });
});

describe("a post with links", () => {
  test("leads to its pages, which are fetched and told with it, in its trace", async () => {
    serve = (path) => path === "/robots.txt" ? NOT_FOUND : html(page("Концерт"));
    await sql`insert into eve.event_consumers (name, kind, types, retry_s) values ('t', 'graph', '{post.linked.v1,crawl.fetched.v1,article.extracted.v1}', '{5}')`;
    const post = {
      source: "telegram:a",
      external_id: "1",
      text: "Афиша: http://post.example.com/?utm_source=tg и https://post.example.com/.",
    };
    const [row] = await sql`select public.eve_post_add(${sql.json(PROJECT)}, ${
      sql.json(post)
    }, ${TRACE}) as answer`;
    expect(row!.answer).toMatchObject({ status: "created", wake: true });
    const queued = () => sql`select id, body from eve.jobs where kind = 'crawl' and state = 'queued'`;
    for (const { id } of await queued()) await runJob(id);
    expect(await queued()).toHaveLength(1);
    for (const { id } of await queued()) await runJob(id);
    const events =
      await sql`select type, data, traceparent from eve.events where type ~ 'linked|crawl|article' order by id`;
    expect(events.map(({ type }) => type)).toEqual([
      "post.linked.v1",
      "crawl.fetched.v1",
      "article.extracted.v1",
    ]);
    const postId = row!.answer.post.id;
    expect(events[0]!.data).toMatchObject({
      post_id: postId,
      links: [{ canonical_url: "https://post.example.com/", domain: "post.example.com" }],
    });
    expect(events[2]!.data).toMatchObject({
      tenant_id: "default",
      post_ids: [postId],
      title: "Концерт",
      trace_id: TRACE,
    });
    for (const { traceparent } of events) expect(traceparent).toContain(TRACE);
    await sql`update public.posts set text = 'без ссылок' where id = ${postId}`;
    for (const { id } of await queued()) await runJob(id);
    expect(await sql`select from public.post_links`).toHaveLength(0);
  });

  test("whose links are too long for one event tells of as many as there is room for, in its order", async () => {
    await sql`insert into eve.event_consumers (name, kind, types, retry_s) values ('long', 'graph', '{post.linked.v1}', '{5}')`;
    const [post] = await sql`insert into public.posts (tenant_id, source, text, created_at, updated_at)
      values ('default', 'long', '', now(), now()) returning id`;
    const list = Array.from({ length: 50 }, (_, n) => {
      const url = `https://long.example.com/${n}/${"x".repeat(2_000)}`;
      return { url, canonical_url: url, domain: "long.example.com", rules: 1 };
    });
    const [row] = await sql`select public.eve_crawl_links(${post!.id}, ${sql.json({ list })}) as answer`;
    expect(row!.answer).toMatchObject({ status: "linked", links: 50 });
    const [{ data }] = await sql`select data from eve.events where subject = ${post!.id}` as [
      { data: { links: { canonical_url: string }[]; links_left_out: number } },
    ];
    expect(data.links.length).toBeGreaterThan(4);
    expect(data.links.length + data.links_left_out).toBe(50);
    expect(data.links.map(({ canonical_url }) => canonical_url)).toEqual(
      list.slice(0, data.links.length).map(({ url }) => url),
    );
  });
});
