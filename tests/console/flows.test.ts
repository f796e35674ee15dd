/**
 * The console over a year's worth of callers: what it shows is what the command line and SQL say; and all that an owner does with it, at
 * every width, in both colour schemes and languages. Each flow runs once, and each of the twelve looks shows one or two of them.
 * EVE_CONSOLE_FLOWS=pairs has each flow meet each width, scheme and language, as CI does; EVE_CONSOLE_FLOWS=all runs all of them. At the end the back end stands still, dies, and is gone for good.
 */
import type { Browser, Page } from "playwright-core";
import postgres from "postgres";
import { connect } from "../../cli/eve/connection.ts";
import { eve } from "../../cli/eve.ts";
import { daysBefore, pacificMidnight, wholeDays } from "../../shared/runtime/pacific_days.ts";
import { moveClock, stopClock } from "../harness/database_clock.ts";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { pngOf, scene } from "../harness/made_pictures.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";
import { chromiumPath, openBrowser, openPage, signIn } from "./browser.ts";
import { type At, FLOWS } from "./flows.ts";
import { installedConsole } from "./installed_console.ts";
import {
  CONSUMERS,
  costOf,
  fillConsumers,
  fillRequests,
  forgetPrices,
  priceModels,
  type Sums,
  type SumsBy,
  sumsOf,
  timesOf,
} from "./many_requests.ts";
import { LANGUAGES, type Look, SCHEMES, Screen, WIDTHS } from "./screen.ts";

const CAN_RUN = Deno.env.get("CI") !== undefined ||
  (chromiumPath() !== undefined && installedConsole());

/** What the table of usage shows of each line. */
const COLUMNS = [
  "requests",
  "succeeded",
  "failed",
  "cancelled",
  "expired",
  "refused",
  "input_tokens",
  "tokens_out",
  "thoughts_tokens",
  "cached_tokens",
] as const satisfies (keyof Sums)[];

const NAMES = Object.keys(FLOWS);
type Run = Look & { name: string };

/** All together, the looks one after the other: to change one is to load the page again. */
const EVERY: Run[] = WIDTHS.flatMap((width) =>
  SCHEMES.flatMap((scheme) =>
    LANGUAGES.flatMap((language) => NAMES.map((name) => ({ width, scheme, language, name })))
  )
);

/** Each flow at each width; of the three runs one has the other scheme, and another one the other language. */
function pairwise(): Run[] {
  const chosen = new Set(NAMES.flatMap((name, flow) =>
    WIDTHS.map((width, at) => {
      const scheme = SCHEMES[(flow + (at === 1 ? 1 : 0)) % 2]!;
      const language = LANGUAGES[(Math.floor(flow / 2) + (at === 2 ? 1 : 0)) % 2]!;
      return [width, scheme, language, name].join();
    })
  ));
  return EVERY.filter(({ width, scheme, language, name }) =>
    chosen.has([width, scheme, language, name].join())
  );
}

/** Each flow once. */
function once(): Run[] {
  const looks = EVERY.filter(({ name }) => name === NAMES[0]);
  const chosen = new Set(
    NAMES.map((name, flow) => JSON.stringify({ ...looks[flow * 5 % looks.length], name })),
  );
  return EVERY.filter((run) => chosen.has(JSON.stringify(run)));
}

const RUNS = { all: EVERY, pairs: pairwise() }[Deno.env.get("EVE_CONSOLE_FLOWS") ?? ""] ?? once();

test("each flow and each look is in what runs by default", () => {
  expect(new Set(once().map(({ name }) => name))).toEqual(new Set(NAMES));
  const looks = (runs: Run[]) => new Set(runs.map(({ name: _, ...look }) => JSON.stringify(look)));
  expect(looks(once())).toEqual(looks(EVERY));
});

test("any two of width, scheme, language and flow meet in pairs", () => {
  const pairs = (runs: Run[]) =>
    new Set(
      runs.flatMap((run) =>
        Object.entries(run).flatMap((one, at) =>
          Object.entries(run).slice(at + 1).map((other) => [one, other].join())
        )
      ),
    );
  expect(pairs(pairwise())).toEqual(pairs(EVERY));
});

describe.skipIf(!CAN_RUN)("the console", () => {
  let stack: TestStack;
  let browser: Browser;
  let page: Page;
  let problems: string[];
  let sql: postgres.Sql;
  let screen: Screen;
  let isGone = false;

  beforeAll(async () => {
    stack = await startTestStack({ console: true, emulator: { latencyMs: 20 } });
    sql = postgres(stack.databaseUrl, { max: 2, onnotice: () => {} });
    // No flow waits for a minute that others have used up.
    const limits = { model: "gemma-4-31b-it", rpm: 10_000, tpm: 10_000_000, rpd: 100_000 };
    const changed = await fetch(`${stack.emulatorUrl}/__control/limits`, {
      method: "POST",
      body: JSON.stringify(limits),
    });
    expect(changed.ok, await changed.text()).toBe(true);
    await sql`select public.eve_limits_set(${sql.json([limits])})`;
    expect(await stack.console!.built).toBeUndefined();
    browser = await openBrowser();
    ({ page, problems } = await openPage(browser));
    await signIn(page, stack.console!.url, stack.console!.administrator);
    await page.getByRole("banner").waitFor();
    screen = new Screen(page);
    await screen.show({ width: 1440, scheme: "light", language: "en" });
  });

  afterAll(async () => {
    await browser?.close();
    await sql?.end();
    if (!isGone) await stack?.stop();
  });

  test("of 100,000 requests of 1,000 consumers screen, command line and SQL say the same, before and after Google's midnight", async () => {
    const [clock] = await sql`
      select today::text, today::timestamp at time zone 'America/Los_Angeles' as midnight
      from eve.pacific_day(eve.clock_ms()) today`;
    const midnight = (clock!.midnight as Date).getTime();
    const MINUTE_MS = 60_000;
    const weekAgo = new Date(pacificMidnight(daysBefore(clock!.today, 8)));
    await fillConsumers(sql, weekAgo, new Date());
    const at = async (instant: number) => {
      await moveClock(sql, instant - Date.now());
      await stopClock(sql);
    };
    const fill = async (until: number, spanMs: number, days: number, count: number, first: number) => {
      await fillRequests(sql, { until: new Date(until), spanMs, days, count, first });
      await sql`select public.eve_rollup(600000)`;
    };
    await sql`select public.eve_rollup_rebuild()`;
    await priceModels(sql);
    try {
      await at(midnight - MINUTE_MS);
      await fill(midnight - MINUTE_MS, 89 * MINUTE_MS, 8, 96_000, 1);
      await compared(daysBefore(clock!.today, 1));
      await at(midnight + 30 * MINUTE_MS);
      await fill(midnight + 30 * MINUTE_MS, 29 * MINUTE_MS, 1, 4_000, 96_001);
      await compared(clock!.today);
    } finally {
      await moveClock(sql, 0);
      await forgetPrices(sql);
    }

    async function compared(when: string) {
      const sums = await sumsOf(sql, new Date(pacificMidnight(when)));
      const total = sums.get(null)!;
      sums.delete(null);
      const week = (await sumsOf(sql, new Date(wholeDays(7, when)))).get(null)!;
      expect(total.requests, when).toBeGreaterThan(1_000);
      expect(week.requests, when).toBeGreaterThan(total.requests);
      const [bot] = [...sums].toSorted(([, one], [, other]) => other.requests - one.requests)[0]!;
      const its = sums.get(bot)!;
      const tokens = its.input_tokens + its.tokens_out;

      const said: string[] = [];
      const say = (text: string) => said.push(text);
      const dependencies = { say, complain: say, connect: () => connect(stack.url, stack.keys.secret) };
      const run = async (...words: string[]) => {
        expect(await eve([...words, "--json"], dependencies), said.join("\n")).toBe(0);
        return JSON.parse(said.splice(0).join("\n"));
      };
      const read = ({ output_tokens, ...row }: Record<string, number>) => {
        const out = { ...row, tokens_out: output_tokens! + row.thoughts_tokens! };
        return Object.fromEntries(Object.keys(total).map((name) => [name, out[name as "tokens_out"]]));
      };
      const byConsumer = await run("usage", "--by", "consumer", "--since", "today", "--limit", "10000");
      expect(read(byConsumer.totals), when).toEqual(total);
      expect(
        new Map(byConsumer.rows.map(({ consumer, ...row }: Record<string, number>) => [consumer, read(row)])),
      ).toEqual(sums);
      expect(read((await run("usage", "--since", "7d")).totals), when).toEqual(week);
      const shown = await run("consumers", "show", bot!);
      expect([shown.requests_today, shown.tokens_today], when).toEqual([its.requests, tokens]);
      const ids = (await run("requests", "list", "--consumer", bot!)).requests
        .map(({ request_id }: { request_id: string }) => request_id);
      const newest = await sql`
        select request_id
        from (
          select r.request_id, r.finished_at as at, r.consumer_id from eve.requests r
          union all
          select f.request_id, f.refused_at, f.consumer_id from eve.refusals f where f.attempt = 1
        ) one
        where consumer_id = (select id from eve.consumers where name = ${bot!})
        order by at desc limit 20`;
      expect(ids.slice(0, 20), when).toEqual(newest.map(({ request_id }) => request_id));

      // The screen, which has been open all the time.
      await page.reload();
      const number = (value: number) => value.toLocaleString("en-GB");
      const cellsOf = async (name: string) => {
        const row = page.getByRole("row").filter({ has: page.getByRole("rowheader", { name, exact: true }) });
        return (await row.getByRole("cell").allTextContents()).slice(0, COLUMNS.length);
      };
      const written = (row: Sums) => COLUMNS.map((name) => number(row[name]));
      await screen.open("usage");
      await page.getByText(screen.t("usage.split.consumer"), { exact: true }).click();
      await page.getByText(screen.t("usage.spans.day"), { exact: true }).click();
      await expect.poll(() => cellsOf("Σ")).toEqual(written(total));
      const table = page.getByRole("table", { name: screen.t("usage.title") });
      const size = ({ requests, refused }: Sums) => requests + refused;
      /** The ten largest, all others in one line, and the sum; and the same at the command line. */
      const split = async (by: SumsBy, all: Map<string | null, Sums>, sum: Sums) => {
        const nameOf = (name: string) => by === "key" && name === "" ? screen.t("usage.no_key") : name;
        const expected = new Map(
          [...all].flatMap(([name, row]) => name === null ? [] : [[nameOf(name), row] as const]),
        );
        await page.getByRole("radiogroup", { name: screen.t("usage.by") })
          .getByText(screen.t(`usage.split.${by}`), { exact: true }).click();
        await expect.poll(() => cellsOf("Σ"), { message: by }).toEqual(written(sum));
        // The sum may be that of the split before: what is awaited are names of this one.
        const most = [...expected.values()].map(size).toSorted((one, other) => other - one).slice(0, 10);
        const names = () => table.getByRole("rowheader").allTextContents();
        await expect.poll(
          async () => (await names()).slice(0, most.length).map((name) => size(expected.get(name) ?? sum)),
          { message: by },
        ).toEqual(most);
        const shown = (await names()).slice(0, most.length);
        expect(await names(), by).toHaveLength(shown.length + (expected.size > 10 ? 2 : 1));
        for (const name of shown) expect(await cellsOf(name), name).toEqual(written(expected.get(name)!));
        if (expected.size > 10) {
          const left = (name: keyof Sums) =>
            shown.reduce((rest, one) => rest - expected.get(one)![name], sum[name]);
          expect(await cellsOf(screen.t("usage.others")), by).toEqual(
            COLUMNS.map((name) => number(left(name))),
          );
        }
        if (by === "stage") return;
        const answered = await run("usage", "--by", by, "--since", "today", "--top", "10");
        expect(read(answered.totals), by).toEqual(sum);
        expect(
          new Map(
            answered.rows.map((row: Record<string, number>) => [nameOf(String(row[by] ?? "")), read(row)]),
          ),
          by,
        ).toEqual(new Map(shown.map((name) => [name, expected.get(name)])));
        expect(answered.others_of, by).toBe(Math.max(expected.size - 10, 0));
      };
      const midnightOfIt = new Date(pacificMidnight(when));
      await split("consumer", sums, total);
      expect(sums.size, when).toBeGreaterThan(10);
      for (const by of ["key", "endpoint", "stage", "model"] as const) {
        const of = await sumsOf(sql, midnightOfIt, by);
        if (by === "model") expect(of.size, when).toBeGreaterThan(20);
        await split(by, of, of.get(null)!);
      }

      // What it cost: of models with a price, of one in a free tier, and at least that, since of others no price is known.
      const cost = await costOf(sql, midnightOfIt);
      const { totals: costs, unpriced } = await run(
        "usage",
        "--by",
        "model",
        "--since",
        "today",
        "--top",
        "10",
      );
      expect(costs.paid_usd, when).toBeCloseTo(cost.paid, 6);
      expect(costs.free_usd, when).toBeCloseTo(cost.free, 6);
      expect([costs.paid_unknown, costs.free_unknown, unpriced.length], when).toEqual([true, true, 18]);
      const usd = (value: number) =>
        value.toLocaleString("en-GB", { style: "currency", currency: "USD", maximumFractionDigits: 4 });
      const sum = page.getByRole("row").filter({
        has: page.getByRole("rowheader", { name: "Σ", exact: true }),
      });
      await expect.poll(() => sum.getByRole("cell").last().textContent(), { message: when }).toBe(
        `${screen.t("prices.at_least", { cost: usd(cost.paid) })}, ${
          screen.t("prices.would", { cost: screen.t("prices.at_least", { cost: usd(cost.free) }) })
        }`,
      );

      // What is saved is what is shown.
      const saving = page.waitForEvent("download");
      await screen.button("requests.export.csv").click();
      const saved = (await Deno.readTextFile(await (await saving).path())).trim().split("\r\n")
        .map((line) => line.split(","));
      expect(saved.map(([name]) => name), when).toEqual([
        "model",
        ...await table.getByRole("rowheader").allTextContents(),
      ]);
      const figures = Object.fromEntries(saved[0]!.map((name, at) => [name, saved.at(-1)![at]]));
      for (const name of COLUMNS) expect(figures[name], when).toBe(String(total[name]));
      expect(Number(figures.cost_usd), when).toBeCloseTo(cost.paid, 6);
      expect(figures.cost_has_unknown, when).toBe("true");

      // How long it took, and why it failed.
      const times = await timesOf(sql, midnightOfIt);
      const region = page.getByRole("region", { name: screen.t("usage.times"), exact: true });
      const duration = (ms: number) =>
        new Intl.NumberFormat("en-GB", {
          style: "unit",
          unit: ms < 1_000 ? "millisecond" : "second",
          unitDisplay: "narrow",
          maximumFractionDigits: ms < 1_000 ? 0 : 1,
        }).format(ms < 1_000 ? ms : ms / 1_000);
      await expect.poll(() => region.locator(".figures").allTextContents(), { message: when }).toEqual(
        [times.wait, times.latency].map((of) => of.map(duration).join(" / ")),
      );
      const codes = page.getByRole("table", { name: screen.t("usage.errors"), exact: true }).getByRole("row");
      expect((await codes.allTextContents()).slice(1), when).toEqual(
        times.errors.map(([code, count]) => code + number(count)),
      );
      expect(times.errors.reduce((all, [, count]) => all + count, 0), when).toBe(
        total.failed + total.refused,
      );

      // Of which time it is, and that nothing is missing.
      await page.getByText(`today is ${when}`).waitFor();
      expect(await page.getByText(screen.like("usage.complete_until")).count(), when).toBe(0);
      await page.getByText(screen.t("usage.spans.week"), { exact: true }).click();
      await page.getByText(screen.t("usage.split.day"), { exact: true }).click();
      await expect.poll(() => cellsOf("Σ")).toEqual(written(week));
      // The week's sum is the same by consumer and by day: it says nothing about which of the two is shown.
      await expect.poll(
        () => page.getByRole("table", { name: screen.t("usage.title") }).getByRole("rowheader").count(),
        { message: when },
      ).toBe(8);

      await screen.open("consumers");
      await page.getByText(screen.t("consumers.total", { count: CONSUMERS })).waitFor();
      await screen.field("consumers.search").fill(bot!);
      const consumer = page.locator(`[data-consumer="${bot}"]`);
      await consumer.waitFor();
      expect((await consumer.getByRole("cell").allTextContents()).slice(5, 7), when)
        .toEqual([number(its.requests), number(tokens)]);

      await screen.open("requests");
      await page.getByLabel(screen.t("requests.consumer"), { exact: true }).fill(bot!);
      const list = page.getByRole("table", { name: screen.t("requests.title") }).getByRole("row");
      const newestShown = async () => (await list.locator("td:last-child").allTextContents()).slice(0, 20);
      await expect.poll(newestShown, { message: when }).toEqual(ids.slice(0, 20));
      await page.getByLabel(screen.t("requests.consumer"), { exact: true }).fill("");
      // The address keeps what is looked for, until a pause in typing.
      await expect.poll(() => page.url()).not.toContain(bot);

      const [hour] = await sql`
        select count(*)::integer as requests, count(*) filter (where state = 'failed')::integer as failed,
          (
            select count(*) from eve.refusals where refused_at >= eve.clock() - interval '1 hour' and attempt <= 1
          )::integer + (
            select sum(times) from eve.refusal_counts
            where minute >= date_trunc('minute', eve.clock() - interval '1 hour') and is_first
          )::integer as refused
        from eve.requests where finished_at >= eve.clock() - interval '1 hour'`;
      const overview = page.getByRole("region", { name: screen.t("overview.hour"), exact: true });
      await screen.open("overview");
      for (const name of ["requests", "failed", "refused"] as const) {
        await expect.poll(() => overview.textContent(), { message: when })
          .toContain(screen.t(`overview.${name}`) + number(hour![name]));
      }
    }
  });

  describe("every flow", () => {
    beforeAll(() => seed(stack, sql));
    /** As it is; after a flow that failed, and left something open, unknown. */
    let shown = "";

    test.each(
      RUNS.map((run, no) =>
        [`${run.name}: ${run.width} px, ${run.scheme}, ${run.language}`, run, no] as const
      ),
    )(
      "%s",
      async (_, { name, ...look }, no) => {
        if (shown !== JSON.stringify(look)) await screen.show(look);
        shown = "";
        screen.begin(name);
        await FLOWS[name]!({ screen, stack, sql, no } satisfies At);
        expect(problems.splice(0), "inside the page").toEqual([]);
        shown = JSON.stringify(look);
      },
    );
  });

  test("two tabs have one session, and of two edits of one consumer the second is shown both", async () => {
    await screen.show({ width: 1440, scheme: "light", language: "en" });
    const other = new Screen(await page.context().newPage());
    try {
      // No sign-in: the session is both tabs'.
      await other.page.goto(stack.console!.url);
      await other.page.getByRole("banner").waitFor();
      await other.show(screen.appearance);
      const answer = await stack.invoke("admin/consumers/add", { name: "tabs", kind: "service", rpm: 5 });
      expect(answer.status).toBe(200);
      await answer.body?.cancel();
      const scopes = [];
      for (const tab of [screen, other]) {
        await tab.open("consumers");
        await tab.field("consumers.search").fill("tabs");
        await tab.page.getByRole("button", { name: `${tab.t("consumers.scope")}: tabs` }).click();
        scopes.push(tab.dialog(tab.t("consumers.scope")));
      }
      const [mine, theirs] = [scopes[0]!, scopes[1]!];
      await screen.field("consumers.rpm", mine).fill("7");
      await other.field("consumers.rpm", theirs).fill("9");
      await screen.button("save", mine).click();
      await mine.waitFor({ state: "detached" });
      await other.button("save", theirs).click();
      await theirs.getByRole("alert").getByRole("row", { name: `${other.t("consumers.rpm")} 9 7` }).waitFor();
      expect((await sql`select rpm from eve.consumers where name = 'tabs'`)[0]!.rpm).toBe(7);

      // Who signs out in one has ended the other's session too: it is signed in to again over the page, with what was typed.
      await screen.button("account").click();
      await page.getByRole("menuitem", { name: screen.t("sign_out") }).click();
      await screen.field("sign_in.email").waitFor();
      await other.dialog(other.t("sign_in.again")).waitFor();
      await screen.field("sign_in.email").fill(stack.console!.administrator.email);
      await page.locator("input[type=password]").fill(stack.console!.administrator.password);
      await screen.button("sign_in.submit").click();
      await page.getByRole("banner").waitFor();
      await other.dialog(other.t("sign_in.again")).waitFor({ state: "detached" });
      expect(await other.field("consumers.rpm", theirs).inputValue()).toBe("9");
    } finally {
      await other.page.close();
    }
  });

  test("a back end that stands still, dies, or is gone for good: what is shown stays, with its time, and goes on when it is back", async () => {
    await screen.show({ width: 1440, scheme: "light", language: "en" });
    const stale = page.getByText(screen.like("error.stale")).first();
    await screen.open("consumers");
    // All of them, which are on the page again when one comes back to it; what is typed too soon ends that question.
    await page.getByText(screen.like("consumers.total_other")).waitFor();
    await screen.field("consumers.search").fill("bot-1");
    await page.locator("[data-consumer]").first().waitFor();
    await screen.open("quota");
    const lane = page.getByRole("region", { name: /^gemma-4-31b-it/ }).first();
    await lane.waitFor();
    const admin = stack.functions.get("admin")!;

    const frozen = admin.pid!;
    Deno.kill(frozen, "SIGSTOP");
    try {
      await stale.waitFor();
      expect(await lane.isVisible()).toBe(true);
    } finally {
      Deno.kill(frozen, "SIGCONT");
    }
    await stale.waitFor({ state: "detached" });

    admin.kill("SIGKILL");
    await sql`update public.google_ai_model_limits set rpm = 9876 where model = 'gemma-4-31b-it'`;
    await lane.getByText(screen.like("quota.used_of", { limit: "9,876" })).waitFor();
    await stale.waitFor({ state: "detached" });

    await lane.getByRole("button", { name: screen.like("quota.change") }).click();
    const limits = screen.dialog(screen.like("quota.limits_of"));
    await screen.field("keys.rpm", limits).fill("4321");
    await stack.stop();
    isGone = true;
    await stale.waitFor();
    await screen.button("save", limits).click();
    await page.getByText(screen.t("error.unreachable")).first().waitFor();
    // Nothing typed is lost, and nothing that was shown.
    expect(await screen.field("keys.rpm", limits).inputValue()).toBe("4321");
    await screen.button("close", limits).click();
    expect(await lane.isVisible()).toBe(true);
    // What had been looked at is there with its time, and what had not says why it is not.
    await screen.open("consumers");
    await page.locator("[data-consumer]").first().waitFor();
    await stale.waitFor();
  });
});

/** A chat, and a post with a picture that the graph knows: what pages show that no flow makes. */
async function seed(stack: TestStack, sql: postgres.Sql): Promise<void> {
  const send = async (path: string, body: BodyInit, type?: string) => {
    const answer = await fetch(`${stack.url}/functions/v1/api/v1/${path}`, {
      method: "POST",
      headers: { "apikey": stack.keys.secret, ...(type !== undefined && { "content-type": type }) },
      body,
    });
    expect(answer.ok, path).toBe(true);
    return await answer.json();
  };
  const json = "application/json";
  const chat = await send("chats", JSON.stringify({ title: "Walls", user_id: "u-17" }), json);
  const question = JSON.stringify({ model: "gemma-4-31b-it", prompt: "Which walls bear?" });
  await send(`chats/${chat.id}/answer`, question, json);
  const form = new FormData();
  form.set("post", JSON.stringify({ source: "console", external_id: "1", text: "Concert tonight" }));
  form.append("media", new Blob([pngOf(scene(1, 90, 80))]), "one");
  await send("intake/posts", form);
  await sql`select public.eve_graph_deliver()`;
}
