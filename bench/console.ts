/**
 * `npm run bench:console -- [--json] [--only=lists|pages]`: what the console costs who looks at it. The bytes of its first page, compressed, and the first paint
 * over a line of 1.6 Mbit/s with 150 ms there and back (median of five, nothing cached); requests to the gateway a minute, by page, from
 * WATCH_MS of looking at it, and of a hidden tab. A stack of its own, a real Chromium. And the slowest of its lists over 1,000,000 requests
 * (bench/console/lists.ts). Ends with 1 where a goal is not met.
 */
import type { Browser, Page } from "playwright-core";
import { freePorts } from "../tests/harness/ports.ts";
import { removeHomeElsewhere } from "../local/postgres_place.ts";
import { startStack } from "../local/stack.ts";
import { lists } from "./console/lists.ts";
import { chromiumPath, openBrowser, openPage, signIn } from "../tests/console/browser.ts";

/** `requests_a_minute`: of any page; Quota asks every two seconds for its lanes. */
const GOALS = {
  first_page_bytes: 200_000,
  first_paint_ms: 2_500,
  requests_a_minute: 45,
  hidden: 0,
  list_ms: 300,
  /** Of a week, as Usage asks for them. */
  sum_ms: 1_000,
};
const LINE = { downloadThroughput: 1.6e6 / 8, uploadThroughput: 1.6e6 / 8, latency: 150 };
const TURNS = 5;
const WATCH_MS = 16_000;

const isJson = Deno.args.includes("--json");
/** A part alone, for somebody who works on it; the goals are then not all met. */
const only = Deno.args.find((argument) => argument.startsWith("--only="))?.slice("--only=".length);
if (only !== undefined && only !== "lists" && only !== "pages") {
  console.error(`There is no part ${only}: lists, pages`);
  Deno.exit(2);
}

/** One look by somebody who has never been here. */
async function firstPaint(browser: Browser, url: string): Promise<{ bytes: number; ms: number }> {
  const { page } = await openPage(browser);
  const line = await page.context().newCDPSession(page);
  await line.send("Network.enable");
  await line.send("Network.emulateNetworkConditions", { offline: false, ...LINE });
  let bytes = 0;
  line.on("Network.loadingFinished", ({ encodedDataLength }) => {
    bytes += encodedDataLength;
  });
  await page.goto(url, { waitUntil: "networkidle" });
  await page.getByRole("button", { name: "Sign in" }).waitFor();
  const ms = await page.evaluate(`new Promise((found) =>
    new PerformanceObserver((list) => found(list.getEntriesByName("first-contentful-paint")[0].startTime))
      .observe({ type: "paint", buffered: true })
  )`) as number;
  await page.context().close();
  return { bytes, ms: Math.round(ms) };
}

/** Requests to the project's functions while somebody looks, for a minute. */
async function asked(page: Page): Promise<number> {
  let count = 0;
  const note = (request: { url(): string; method(): string }) => {
    if (request.url().includes("/functions/v1/") && request.method() !== "OPTIONS") count++;
  };
  page.on("request", note);
  await page.waitForTimeout(WATCH_MS);
  page.off("request", note);
  return Math.round(count * 60_000 / WATCH_MS);
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

async function pages() {
  if (!chromiumPath()) throw new Error("Chromium is needed: install it, or name it in EVE_CHROMIUM.");
  const dataDir = await Deno.makeTempDir({ prefix: "eve-gateway-bench-console-" });
  await Deno.chmod(dataDir, 0o755);
  const [port] = freePorts(3);
  const stack = await startStack({ dataDir, port: port!, durable: false, console: true });
  await stack.console!.built;
  const browser = await openBrowser();
  try {
    const looks = [];
    for (let turn = 0; turn < TURNS; turn++) looks.push(await firstPaint(browser, stack.console!.url));
    const { page } = await openPage(browser);
    await signIn(page, stack.console!.url, stack.console!.administrator);
    await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
    const links = page.getByRole("navigation", { name: "Pages" }).getByRole("link");
    const perMinute: Record<string, number> = {};
    for (const link of await links.all()) {
      const name = (await link.textContent())!;
      await link.click();
      await page.getByRole("heading", { level: 1, name }).waitFor();
      await page.waitForLoadState("networkidle").catch(() => {});
      if (!isJson) console.error(`${name} ...`);
      perMinute[name] = await asked(page);
    }
    await page.evaluate(`
      Object.defineProperty(document, "visibilityState", { get: () => "hidden" });
      document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
    `);
    await page.waitForLoadState("networkidle");
    const figures = {
      first_page_bytes: median(looks.map(({ bytes }) => bytes)),
      first_paint_ms: median(looks.map(({ ms }) => ms)),
      requests_a_minute: perMinute,
      hidden: await asked(page),
    };
    const goals = {
      first_page_bytes: {
        goal: GOALS.first_page_bytes,
        met: figures.first_page_bytes <= GOALS.first_page_bytes,
      },
      first_paint_ms: { goal: GOALS.first_paint_ms, met: figures.first_paint_ms <= GOALS.first_paint_ms },
      requests_a_minute: {
        goal: GOALS.requests_a_minute,
        met: Object.values(perMinute).every((count) => count <= GOALS.requests_a_minute),
      },
      hidden: { goal: GOALS.hidden, met: figures.hidden <= GOALS.hidden },
    };
    return { figures, goals };
  } finally {
    await browser.close();
    await stack.stop();
    await removeHomeElsewhere(dataDir);
    await Deno.remove(dataDir, { recursive: true });
  }
}

async function listsOfMany() {
  const { lists: lists_p95_ms, sums: sums_p95_ms } = await lists();
  const figures = { lists_p95_ms, sums_p95_ms };
  const goal = (goal: number, took: Record<string, number>) => ({
    goal,
    met: Object.values(took).every((ms) => ms < goal),
  });
  return {
    figures,
    goals: { list_ms: goal(GOALS.list_ms, lists_p95_ms), sum_ms: goal(GOALS.sum_ms, sums_p95_ms) },
  };
}

const parts = [
  ...(only === "lists" ? [] : [await pages()]),
  ...(only === "pages" ? [] : [await listsOfMany()]),
];
const goals = Object.assign({}, ...parts.map((part) => part.goals)) as Record<string, { met: boolean }>;
const said = {
  figures: Object.assign({}, ...parts.map((part) => part.figures)),
  ratios: {},
  goals,
  met: only === undefined && Object.values(goals).every(({ met }) => met),
};
console.log(JSON.stringify(said, null, isJson ? 0 : 2));
Deno.exit(said.met ? 0 : 1);
