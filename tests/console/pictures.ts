/**
 * The console's pictures for the docs, and how long its first page takes: `npm run console:pictures`. A stack of its own
 * with a little life in it, a real browser, docs/pictures/console_*.png.
 */
import postgres from "postgres";
import type { Browser, Page } from "playwright-core";
import { CHECKOUT } from "../../local/paths.ts";
import { pngOf, scene } from "../harness/made_pictures.ts";
import { until } from "../harness/patience.ts";
import { freePorts } from "../harness/ports.ts";
import { removeHomeElsewhere } from "../../local/postgres_place.ts";
import { type Stack, startStack } from "../../local/stack.ts";
import { chromiumPath, openBrowser, openPage, signIn } from "./browser.ts";

const FOLDER = `${CHECKOUT}/docs/pictures`;
const PAGES = [
  "Overview",
  "Keys and models",
  "Providers",
  "Quota",
  "Requests",
  "Consumers",
  "Chats",
  "Jobs",
  "Vision",
  "Graph",
  "Usage",
  "Storage",
  "Alerts",
  "Playground",
];
/** More than two projects of five a minute take of one model, so that there is a refusal to see. */
const CALLS = 12;
const SHOWN_REQUEST = "which-walls";
/** Charts and lists settle. */
const SETTLE_MS = 1_500;

async function live(stack: Stack): Promise<void> {
  const call = (name: string, body: unknown) =>
    fetch(`${stack.url}/functions/v1/${name}`, {
      method: "POST",
      headers: { "apikey": stack.keys.secret, "content-type": "application/json" },
      body: JSON.stringify(body),
    }).then((answer) => answer.text());
  await call("admin/tenants/add", { id: "city", name: "City events", storage_limit_bytes: 500_000_000 });
  await call("admin/consumers/add", {
    name: "city-bot",
    kind: "service",
    requests_per_day: 500,
    scopes: ["llm", "media"],
    tenant_id: "city",
  });
  await call("admin/consumers/add", { name: "kaggle-festivals", kind: "notebook", max_class: "batch" });
  await call("admin/providers/update", {
    stage_type: "POEM",
    provider_kind: "gemini",
    model: "gemma-4-31b-it",
  });
  for (let index = 0; index < CALLS; index++) {
    await call("llm-invoke", { model: "gemini-2.5-flash", prompt: `Question ${index}`, mode: "no_wait" });
    await call("llm-invoke", { model: "gemma-4-31b-it", prompt: `A longer question, number ${index}` });
  }
  // What is on the alerts page when a person has something to do: the stage's model is on no list any more.
  const database = postgres(stack.databaseUrl, { max: 1 });
  const chat = JSON.parse(await call("api/v1/chats", { title: "Walls", user_id: "u-17" }));
  await call(`api/v1/chats/${chat.id}/answer`, { model: "gemma-4-31b-it", prompt: "Which walls bear?" });
  for (const [nr, text] of ["Concert tonight", "The same poster once more"].entries()) {
    const form = new FormData();
    form.set("post", JSON.stringify({ source: "console", external_id: String(nr), text }));
    form.append("media", new Blob([pngOf(scene(1 + nr, 320, 240))]), "poster.png");
    const answer = await fetch(`${stack.url}/functions/v1/api/v1/intake/posts`, {
      method: "POST",
      headers: { "apikey": stack.keys.secret },
      body: form,
    });
    await answer.body?.cancel();
  }
  await until(async () =>
    (await database`select from public.post_enrichment where status = 'done'`).length === 2
  );
  const run_at = new Date(Date.now() + 3_600_000).toISOString();
  const job = { kind: "llm", models: ["gemma-4-31b-it"], request_id: "nightly-digest" };
  await database`select public.eve_jobs_submit(${
    database.json([{ ...job, run_at, body: { path: "/", body: {} } }])
  })`;
  await database`select public.eve_graph_deliver()`;
  // The owner has allowed that what is asked with the project's key is kept.
  await database`update eve.consumers set capture = true where kind = 'project'`;
  await call("llm-invoke", {
    model: "gemma-4-31b-it",
    system: "You are a structural engineer. Be brief.",
    messages: [
      { role: "user", content: "Which walls of a flat bear?" },
      { role: "assistant", content: "The outer ones, and those **below beams**." },
      { role: "user", content: "And that of the bathroom?" },
    ],
    request_id: SHOWN_REQUEST,
  });
  await database`update public.provider_configs set model = 'gemini-2.0-flash' where stage_type = 'POEM'`;
  await database.end();
  await call("admin/providers/refresh", { stage_type: "POEM" });
}

async function picture(page: Page, name: string): Promise<void> {
  await page.waitForTimeout(SETTLE_MS);
  const file = `console_${name.toLowerCase().replaceAll(" ", "_")}.png`;
  await page.screenshot({ path: `${FOLDER}/${file}` });
  console.log(`docs/pictures/${file}`);
}

async function firstPaint(browser: Browser, url: string): Promise<number> {
  const { page } = await openPage(browser);
  await page.goto(url);
  await page.getByRole("button", { name: "Sign in" }).waitFor();
  // The browser notes it with the frame after the one that showed it.
  const ms = await page.evaluate(`new Promise((found) =>
    new PerformanceObserver((list) => found(list.getEntries()[0].startTime))
      .observe({ type: "paint", buffered: true })
  )`) as number;
  await page.context().close();
  return Math.round(ms);
}

async function run(): Promise<void> {
  if (!chromiumPath()) throw new Error("Chromium is needed: install it, or name it in EVE_CHROMIUM.");
  await Deno.mkdir(FOLDER, { recursive: true });
  const dataDir = await Deno.makeTempDir({ prefix: "eve-gateway-pictures-" });
  await Deno.chmod(dataDir, 0o755);
  const [port] = freePorts(3);
  const stack = await startStack({ dataDir, port: port!, durable: false, console: true });
  await stack.console!.built;
  const browser = await openBrowser();
  try {
    await live(stack);
    const paints = [];
    for (let turn = 0; turn < 5; turn++) paints.push(await firstPaint(browser, stack.console!.url));
    console.log(`first contentful paint, median of ${paints.length}: ${paints.sort((a, b) => a - b)[2]} ms`);
    const { page } = await openPage(browser);
    await signIn(page, stack.console!.url, stack.console!.administrator);
    for (const name of PAGES) {
      await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name }).click();
      await page.getByRole("heading", { level: 1, name }).waitFor();
      if (name === "Playground") await ask(page);
      if (name === "Vision") await page.getByRole("main").locator("img").first().waitFor();
      if (name === "Graph") {
        await page.getByRole("main").getByRole("link").first().click();
        await page.locator(".graph-drawing canvas").first().waitFor();
      }
      await picture(page, name);
    }
    await page.getByRole("link", { name: "Requests" }).click();
    await page.getByRole("button", { name: `Open request ${SHOWN_REQUEST}` }).click();
    await picture(page, "request");
    await page.getByRole("dialog").getByRole("button", { name: "Close" }).click();
    await page.emulateMedia({ colorScheme: "dark" });
    await page.getByText("RU", { exact: true }).click();
    await page.getByRole("link", { name: "Квота" }).click();
    await picture(page, "quota_dark_russian");
  } finally {
    await browser.close();
    await stack.stop();
    await removeHomeElsewhere(dataDir);
    await Deno.remove(dataDir, { recursive: true });
  }
}

async function ask(page: Page): Promise<void> {
  await page.getByRole("combobox", { name: "Model or stage" }).click();
  await page.getByRole("option", { name: "POEM" }).click();
  await page.getByLabel("Prompt").fill("Write a line about the sea.");
  await page.getByRole("button", { name: "Ask", exact: true }).click();
  await page.getByText("done", { exact: true }).waitFor();
}

await run();
Deno.exit(0);
