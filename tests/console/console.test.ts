/** The console as a person meets it: a real browser, the built site, the whole stack behind it. */
import { Buffer } from "node:buffer";
import postgres from "postgres";
import type { Browser, CDPSession, ElementHandle, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { connect } from "../../cli/eve/connection.ts";
import { eve } from "../../cli/eve.ts";
import { toBase64 } from "../../shared/runtime/base64.ts";
import { moveClock } from "../harness/database_clock.ts";
import { pngOf, scene } from "../harness/made_pictures.ts";
import { installedConsole } from "./installed_console.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";
import { DIALOGS, fillForDialogs } from "./dialogs.ts";
import { openScreenReader, partsRead } from "./screen_reader.ts";
import { accessibilityProblems, chromiumPath, openBrowser, openPage, signIn } from "./browser.ts";

const PAGES = [
  "Overview",
  "Providers",
  "Keys and models",
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

/** CI has a browser and the console's packages, so there nothing is skipped. */
const CAN_RUN = Deno.env.get("CI") !== undefined ||
  (chromiumPath() !== undefined && installedConsole());

describe.skipIf(!CAN_RUN)("the console", () => {
  let stack: TestStack;
  let browser: Browser;
  let page: Page;
  let problems: string[];
  let reader: CDPSession;
  /** Requests that have no answer yet. */
  const pending = new Set<unknown>();

  const open = (name: string) =>
    page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name }).click();
  const stage = (name: string) => page.getByRole("region", { name, exact: true });
  /** Goes to what has an id, from any page. */
  const find = async (id: string, link: RegExp) => {
    await page.keyboard.press("Control+K");
    const finding = page.getByRole("dialog", { name: "Find an id" });
    await finding.getByLabel("Id").fill(id);
    await finding.getByRole("link", { name: link }).click();
  };

  beforeAll(async () => {
    stack = await startTestStack({ console: true });
    expect(await stack.console!.built).toBeUndefined();
    browser = await openBrowser();
    ({ page, problems } = await openPage(browser));
    reader = await openScreenReader(page);
    const over = (request: unknown) => pending.delete(request);
    page.on("request", (request) => pending.add(request)).on("requestfinished", over).on(
      "requestfailed",
      over,
    );
    await signIn(page, stack.console!.url, stack.console!.administrator);
    await page.getByRole("heading", { name: "Overview", level: 1 }).waitFor();
  });

  // A window that a failed test left open would fail the next ones too.
  afterEach(() => page.keyboard.press("Escape"));

  afterAll(async () => {
    await browser?.close();
    await stack?.stop();
  });

  /** What a screen reader is told as it stays: everything has been answered, nothing is awaited, and nothing is drawn any more. */
  async function partsAsTheyStay(role: "main" | "dialog"): Promise<string> {
    let parts = "not yet read";
    await expect.poll(async () => {
      const before = parts;
      parts = (await partsRead(reader, role)).join("\n");
      return pending.size === 0 && !/"Loading"/.test(parts) && parts === before;
    }).toBe(true);
    return parts;
  }

  test("what a screen reader is told of each page", async () => {
    const parts: string[] = [];
    await page.reload();
    for (const name of PAGES) {
      await open(name);
      await page.getByRole("heading", { level: 1, name }).waitFor();
      parts.push(`# ${name}`, await partsAsTheyStay("main"), "");
    }
    await expect(parts.join("\n")).toMatchFileSnapshot("./screen_reader.txt");
  });

  test("from nothing to a first call, step by step in one place: a key that Google refuses is not saved", async () => {
    const database = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
    try {
      await open("Overview");
      const steps = page.getByRole("region", { name: "First steps" });
      await steps.getByRole("button", { name: /Add a Google AI key/ }).click();
      await steps.getByLabel("Alias").fill("first-key");
      await steps.getByLabel("API key").fill("no-such-key-0123");
      await steps.getByRole("button", { name: "Add key" }).click();
      await steps.getByRole("status").getByText("Google rejects the key.").waitFor();
      expect(await database`select from public.google_ai_api_keys where key_alias = 'first-key'`)
        .toHaveLength(0);
      await steps.getByLabel("API key").fill("demo-key-c");
      await steps.getByRole("button", { name: "Add key" }).click();
      await steps.getByRole("button", { name: "Leave the limits as they are" }).waitFor();
      expect(await database`select from public.google_ai_api_keys where key_alias = 'first-key'`)
        .toHaveLength(1);
      expect(await steps.getByLabel("Requests a minute").inputValue()).not.toBe("");
      expect(await accessibilityProblems(page, "light")).toEqual([]);
      await steps.getByRole("button", { name: "Leave the limits as they are" }).click();
      await steps.getByLabel("Name").fill("first-bot");
      await steps.getByRole("button", { name: "Add consumer" }).click();
      const secret = (await steps.getByTestId("secret").textContent())!;
      expect(await steps.getByTestId("snippet").textContent()).toContain(secret);
      expect(await accessibilityProblems(page, "light")).toEqual([]);
      const call = await fetch(`${stack.url}/functions/v1/llm-invoke`, {
        method: "POST",
        headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
        body: JSON.stringify({ model: "gemma-4-31b-it", prompt: "Hello" }),
      });
      expect(call.status).toBe(200);
      await call.body?.cancel();
      await page.evaluate(`document.dispatchEvent(new Event("visibilitychange"))`);
      await steps.getByText("The first call has come.").waitFor();
      // Shown until it is kept, although nothing is to do any more.
      expect(await steps.getByTestId("secret").textContent()).toBe(secret);
      await steps.getByRole("button", { name: "I have kept it" }).click();
      await steps.waitFor({ state: "detached" });
    } finally {
      await database`delete from public.google_ai_api_keys where key_alias = 'first-key'`;
      await database`delete from eve.consumers where name = 'first-bot'`;
      await database.end();
    }
  });

  test("a hidden tab asks for nothing, and what is shown again is asked for at once", async () => {
    const other = await openPage(browser);
    const { page } = other;
    await page.clock.install();
    await signIn(page, stack.console!.url, stack.console!.administrator);
    await page.getByRole("heading", { level: 1 }).waitFor();
    await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Quota" }).click();
    await page.getByRole("region", { name: /^gemma-4-31b-it/ }).first().waitFor();
    let asked = 0;
    page.on("request", (request) => {
      if (request.url().includes("/functions/v1/")) asked++;
    });
    const become = (state: string) =>
      page.evaluate(`
        Object.defineProperty(document, "visibilityState", { configurable: true, get: () => "${state}" });
        document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
      `);
    await page.clock.runFor(10_000);
    await expect.poll(() => asked).toBeGreaterThan(0);
    await become("hidden");
    // What was asked before that has been answered.
    await page.waitForLoadState("networkidle");
    asked = 0;
    await page.clock.runFor(120_000);
    expect(asked).toBe(0);
    await become("visible");
    await page.clock.runFor(3_000);
    await expect.poll(() => asked).toBeGreaterThan(0);
    await page.context().close();
  });

  test("an ordinary user signs in and sees nothing, by the page and by its client", async () => {
    const ordinary = { email: "person@example.com", password: "correct horse battery" };
    const signUp = await fetch(`${stack.url}/auth/v1/signup`, {
      method: "POST",
      headers: { "apikey": stack.keys.publishable, "content-type": "application/json" },
      body: JSON.stringify(ordinary),
    });
    const { access_token } = await signUp.json();
    const other = await openPage(browser);
    await signIn(other.page, stack.console!.url, ordinary);
    await other.page.getByRole("heading", { name: "This account is not an administrator" }).waitFor();
    await other.page.context().close();
    for (const table of ["provider_configs", "api_keys", "google_ai_api_keys", "token_usage"]) {
      const rows = await fetch(`${stack.url}/rest/v1/${table}?select=*`, {
        headers: { apikey: stack.keys.publishable, authorization: `Bearer ${access_token}` },
      });
      const body = await rows.json();
      expect(rows.ok ? body : [], table).toEqual([]);
    }
  });

  test("a wrong password is refused in words", async () => {
    const other = await openPage(browser);
    await signIn(other.page, stack.console!.url, { email: "admin@example.com", password: "wrong" });
    await other.page.getByText("E-mail or password is wrong.").waitFor();
    expect(await other.page.getByRole("button", { name: "Sign in" }).isVisible()).toBe(true);
    await other.page.context().close();
  });

  test("a key is saved, the models come, one is chosen, and the stage uses it at once", async () => {
    await open("Providers");
    const poem = stage("POEM");
    await poem.getByRole("combobox", { name: "Provider" }).click();
    await page.getByRole("option", { name: "Gemini" }).click();
    await poem.locator("input[type=password]").fill("demo-key-c");
    await poem.getByRole("button", { name: "Save" }).click();
    await poem.getByText("A key ending in ey-c is saved").waitFor();
    await poem.getByText("active").waitFor();
    await poem.getByRole("combobox", { name: "Model" }).click();
    await page.getByRole("option", { name: "gemma-4-31b-it" }).click();
    await poem.getByRole("button", { name: "Save" }).click();
    await expect.poll(async () => {
      const answer = await stack.invoke("llm-invoke", { stage: "POEM", prompt: "Напиши строку о море." });
      return (await answer.json()).model;
    }).toBe("gemma-4-31b-it");
    // What was typed is in no element, and what was saved is shown nowhere.
    expect(await page.content()).not.toContain("demo-key-c");
  });

  test("the history shows what was changed, and by whom", async () => {
    await open("Providers");
    await stage("POEM").getByRole("button", { name: "History" }).click();
    const history = page.getByRole("dialog", { name: "History of POEM" });
    await history.getByText("Configured").waitFor();
    await history.getByText("admin@example.com").first().waitFor();
    expect(await history.textContent()).not.toContain("demo-key-c");
    await history.getByRole("button", { name: "Close" }).click();
  });

  test("a model that has vanished turns the stage to warning, and says which serves now", async () => {
    const database = postgres(stack.databaseUrl, { max: 1 });
    try {
      // As if the provider had listed it once: it is on no list now.
      await database`update public.provider_configs set model = 'gemini-of-yesterday' where stage_type = 'POEM'`;
    } finally {
      await database.end();
    }
    await open("Providers");
    await stage("POEM").getByRole("button", { name: "Refresh" }).click();
    await stage("POEM").getByText("warning", { exact: true }).waitFor();
    await stage("POEM").getByText(/gemini-of-yesterday/).first().waitFor();
    const serving = await stack.invoke("llm-invoke", { stage: "POEM", prompt: "Say hello." });
    expect(await stage("POEM").textContent()).toContain((await serving.json()).model);
    await open("Alerts");
    const alert = page.getByRole("article", { name: /model_vanished/ });
    await alert.waitFor();
    // Somebody looks after it: it stays open, and is nobody else's to be counted.
    await page.getByLabel("1 open alert", { exact: true }).waitFor();
    await alert.getByRole("button", { name: /^I look after it/ }).click();
    await alert.getByText(/^admin@example.com looks after it/).waitFor();
    await expect.poll(() => page.getByLabel(/open alert/).count()).toBe(0);
    await alert.getByText("Who was told").click();
    await alert.getByText("Nobody: no channel was set up.").waitFor();
    await page.getByRole("button", { name: "Test the channels" }).click();
    await page.getByText("No channel is set up: docs/alerts.md says how.").waitFor();
    expect(await accessibilityProblems(page, "light")).toEqual([]);
    await alert.getByRole("link", { name: "To the page Providers" }).click();
    await page.getByRole("heading", { level: 1, name: "Providers" }).waitFor();
  });

  test("the button of an alert puts right what it is about, and the history keeps it", async () => {
    const database = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
    try {
      const [key] = await database`
        insert into public.google_ai_api_keys (key_alias, env_var_name, is_active, priority)
        values ('spare', 'GOOGLE_API_KEY_SPARE', false, 999) returning id`;
      await database`select eve.open_alert('key_disabled', ${
        key!.id
      }, 'critical', 'Key spare is not used: key_invalid')`;
      await database`select eve.open_alert('maintenance_failed', 'sweep', 'warning', 'sweep failed: disk is full')`;
      await database`select eve.open_alert('token_usage_refused', 'public.token_usage', 'warning', 'refused')`;
      await open("Alerts");
      const failed = page.getByRole("article", { name: "maintenance_failed sweep" });
      await failed.getByRole("button", { name: "Run sweep now" }).click();
      await page.getByText("It has run.").waitFor();
      const disabled = page.getByRole("article", { name: /^key_disabled/ });
      await disabled.getByRole("link", { name: "To the page Keys and models" }).click();
      const changing = page.getByRole("dialog", { name: "Change: spare" });
      await changing.waitFor();
      await page.keyboard.press("Escape");
      await changing.waitFor({ state: "detached" });
      await open("Alerts");
      await disabled.getByRole("button", { name: "Use the key again" }).click();
      await disabled.waitFor({ state: "detached" });
      expect(await database`select is_active from public.google_ai_api_keys where key_alias = 'spare'`)
        .toEqual([{ is_active: true }]);
      await open("Keys and models");
      await page.getByRole("button", { name: "Remove: spare" }).click();
      await page.getByRole("dialog", { name: "Remove" }).getByRole("button", { name: "Remove" }).click();
      await page.getByRole("button", { name: "Remove: spare" }).waitFor({ state: "detached" });
      expect(await database`select from public.google_ai_api_keys where key_alias = 'spare'`).toHaveLength(0);
      await open("Alerts");
      const refused = page.getByRole("article", { name: /^token_usage_refused/ });
      await refused.getByText("SQL that shows what stands in the way").click();
      const statement = (await refused.getByText(/^select conname/).textContent())!;
      expect(await database.unsafe(statement)).not.toEqual([]);
      expect(await accessibilityProblems(page, "light")).toEqual([]);
      await failed.getByRole("button", { name: /^Close/ }).click();
      await refused.getByRole("button", { name: /^Close/ }).click();
      await page.getByText("History", { exact: true }).click();
      await failed.waitFor();
      await page.getByText("RU", { exact: true }).click();
      await failed.getByText("Обслуживание не удалось").waitFor();
      await page.getByText("EN", { exact: true }).click();
    } finally {
      await database`delete from public.google_ai_api_keys where key_alias = 'spare'`;
      await database.end();
    }
  });

  test("a consumer is added, its secret is shown once, and its call appears", async () => {
    await open("Consumers");
    await page.getByRole("button", { name: "Add consumer" }).click();
    const dialog = page.getByRole("dialog", { name: "Add consumer" });
    await dialog.getByLabel("Name").fill("festival-bot");
    await dialog.getByRole("button", { name: "Add consumer" }).click();
    const secret = (await page.getByTestId("secret").textContent())!;
    expect(secret).toMatch(/\S{20,}/);
    await page.getByText("A first call with it").click();
    for (const language of ["curl", "Python", "OpenAI", "Google", "supabase-js"]) {
      await page.getByText(language, { exact: true }).click();
      const program = (await page.getByTestId("snippet").textContent())!;
      expect(program, language).toContain(stack.url);
      expect(program, language).toContain(secret);
    }
    await page.getByRole("button", { name: "I have kept it" }).click();
    expect(await page.content()).not.toContain(secret);
    // Later on the gateway does not know it any more: the programs say where it is to be put.
    await page.getByRole("button", { name: "Program: festival-bot" }).click();
    const its = page.getByRole("dialog", { name: "A call of festival-bot" });
    await its.getByText(/keeps only a digest of the secret/).waitFor();
    for (const language of ["curl", "Python", "OpenAI", "Google", "supabase-js"]) {
      await its.getByText(language, { exact: true }).click();
      const program = (await its.getByTestId("snippet").textContent())!;
      expect(program, language).toContain(stack.url);
      expect(program, language).toContain("PUT_THE_SECRET_HERE");
    }
    await its.getByRole("button", { name: "Close" }).click();

    const answer = await fetch(`${stack.url}/functions/v1/llm-invoke`, {
      method: "POST",
      headers: { "authorization": `Bearer ${secret}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "gemma-4-31b-it", prompt: "Hello", request_id: "from-the-bot" }),
    });
    expect(answer.status).toBe(200);
    await open("Requests");
    const row = page.getByRole("row").filter({ hasText: "from-the-bot" });
    await row.getByText("festival-bot").waitFor();
    await row.getByRole("button", { name: "Open request from-the-bot" }).click();
    const detail = page.getByRole("dialog");
    await detail.getByText(/^Attempt 1: gemma-4-31b-it/).waitFor();
    await detail.getByRole("button", { name: "Close" }).click();

    // Live: what ends is told by itself, without the list being asked for again, and only what is asked for.
    const call = async (request_id: string, model = "gemma-4-31b-it") => {
      const body = { model, prompt: "Hello", request_id };
      await (await stack.invoke("llm-invoke", body)).body?.cancel();
    };
    const lists: string[] = [];
    page.on("request", (request) => {
      if (/admin\/requests\?/.test(request.url())) lists.push(request.url());
    });
    await page.getByLabel("Model").fill("gemma-4-31b-it");
    await page.getByRole("switch", { name: "Live" }).check();
    await page.waitForResponse(/requests\/tail\?after=/);
    await call("of-another-model", "gemma-4-26b-a4b-it");
    await call("while-live");
    await page.getByRole("button", { name: "Open request while-live", exact: true }).waitFor();
    expect(await page.getByRole("button", { name: "Open request while-live", exact: true }).count()).toBe(1);
    lists.length = 0;
    await call("while-live-2");
    await page.getByRole("button", { name: "Open request while-live-2" }).waitFor();
    expect(lists).toEqual([]);
    expect(await page.getByRole("button", { name: "Open request of-another-model" }).count()).toBe(0);
    await page.getByRole("switch", { name: "Live" }).uncheck();
    await page.getByLabel("Model").fill("");
  });

  test("a new secret is asked for twice, leaves the old one a day, and its box waits until it has been kept", async () => {
    const added = { name: "rotated", kind: "service" };
    const old = (await (await stack.invoke("admin/consumers/add", added)).json()).secret as string;
    const says = async (secret: string) => {
      const answer = await fetch(`${stack.url}/functions/v1/llm-invoke`, {
        method: "POST",
        headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
        body: JSON.stringify({ model: "gemma-4-31b-it", prompt: "Hello" }),
      });
      await answer.body?.cancel();
      return answer.status;
    };
    await open("Consumers");
    await page.getByRole("button", { name: "New secret: rotated" }).click();
    const asking = page.getByRole("dialog", { name: "New secret" });
    expect(await asking.getByRole("combobox", { name: /works on for/ }).inputValue()).toBe("a day");
    await asking.getByRole("button", { name: "Cancel" }).click();
    expect(await says(old)).toBe(200);
    await page.getByRole("button", { name: "New secret: rotated" }).click();
    await asking.getByRole("button", { name: "Make a new secret" }).click();
    const box = page.getByRole("dialog", { name: "Secret of rotated" });
    const secret = (await box.getByTestId("secret").textContent())!;
    expect(await box.getByRole("link", { name: "Download" }).getAttribute("href")).toBe(
      `data:text/plain,${secret}%0A`,
    );
    await page.keyboard.press("Escape");
    await page.mouse.click(5, 5);
    expect(await box.getByTestId("secret").textContent()).toBe(secret);
    expect(await accessibilityProblems(page, "light")).toEqual([]);
    await box.getByRole("button", { name: "I have kept it" }).click();
    expect([await says(old), await says(secret)]).toEqual([200, 200]);
    await page.getByRole("row").filter({ hasText: "rotated" }).getByText(/old secret valid until/).waitFor();
  });

  test("two who edit the same: the second is shown both, and decides", async () => {
    await stack.invoke("admin/consumers/add", { name: "edited", kind: "service", rpm: 5 }).then((a) =>
      a.body?.cancel()
    );
    const rpm = async () => {
      const answer = await fetch(`${stack.url}/functions/v1/admin/consumers?name=edited`, {
        headers: { apikey: stack.keys.secret },
      });
      return (await answer.json()).consumers[0].rpm;
    };
    await open("Providers");
    await open("Consumers");
    await page.getByRole("button", { name: "Scope: edited" }).click();
    const scope = page.getByRole("dialog", { name: "Scope" });
    await scope.getByLabel("Requests a minute").fill("7");
    await stack.invoke("admin/consumers/scope", { name: "edited", rpm: 9 }).then((a) => a.body?.cancel());
    await scope.getByRole("button", { name: "Save" }).click();
    const conflict = scope.getByRole("alert");
    await conflict.getByRole("row", { name: "Requests a minute 7 9" }).waitFor();
    expect(await rpm()).toBe(9);
    await conflict.getByRole("button", { name: /Keep mine/ }).click();
    await scope.getByRole("button", { name: "Save" }).click();
    await scope.waitFor({ state: "detached" });
    expect(await rpm()).toBe(7);

    await page.getByRole("button", { name: "Scope: edited" }).click();
    await scope.getByRole("combobox", { name: "Its answers are kept for" }).click();
    await page.getByRole("option", { name: "a week" }).click();
    await scope.getByRole("button", { name: "Keep them so" }).click();
    await page.getByText("within ten seconds").waitFor();
    const kept = await fetch(`${stack.url}/functions/v1/admin/cache?consumer=edited`, {
      headers: { apikey: stack.keys.secret },
    });
    expect((await kept.json()).consumers).toEqual([{ consumer: "edited", ttl_s: 604_800, by_tenant: false }]);
    const cache = { name: "edited", ttl_s: 60, by_tenant: true };
    await stack.invoke("admin/cache/consumer", cache).then((a) => a.body?.cancel());
    await scope.getByRole("combobox", { name: "Its answers are kept for" }).click();
    await page.getByRole("option", { name: "a day" }).click();
    await scope.getByRole("button", { name: "Keep them so" }).click();
    await scope.getByRole("alert").getByRole("row", { name: "Its answers are kept for a day 60 seconds" })
      .waitFor();
    await scope.getByRole("button", { name: "Take what is there" }).click();
    expect(await scope.getByRole("combobox", { name: "Its answers are kept for" }).inputValue()).toBe(
      "60 seconds",
    );
    await scope.getByRole("button", { name: "Give up what is kept" }).click();
    await page.getByText("0 answers are given up.").waitFor();
    await page.keyboard.press("Escape");
    await scope.waitFor({ state: "detached" });

    // The list is as it was when the other one has changed the limit.
    const before = await fetch(`${stack.url}/functions/v1/admin/consumers?search=edited`, {
      headers: { apikey: stack.keys.secret },
    });
    const listed = await before.json();
    await page.route(/admin\/consumers\?(?!name=)/, (route) => route.fulfill({ json: listed }));
    const switching = page.getByRole("dialog", { name: "edited on or off" });
    try {
      await stack.invoke("admin/consumers/scope", { name: "edited", rpm: 8 }).then((a) => a.body?.cancel());
      await page.getByRole("button", { name: "Switch off: edited" }).click();
      await switching.getByRole("row", { name: "Requests a minute 7 8" }).waitFor();
      expect(await accessibilityProblems(page, "light")).toEqual([]);
    } finally {
      await page.unrouteAll();
    }
    await switching.getByRole("button", { name: /Keep mine/ }).click();
    await page.getByRole("button", { name: "Switch on: edited" }).waitFor();

    await open("Providers");
    const poem = stage("POEM");
    await poem.locator("input[type=password]").fill("typed-and-not-saved");
    const database = postgres(stack.databaseUrl, { max: 1 });
    try {
      await database`update public.provider_configs set model = 'gemma-4-26b-a4b-it' where stage_type = 'POEM'`;
      await poem.getByRole("button", { name: "Save" }).click();
      await poem.getByRole("alert").getByText("gemma-4-26b-a4b-it").waitFor();
      await poem.getByRole("button", { name: "Take what is there" }).click();
      await expect.poll(() => poem.getByRole("combobox", { name: "Model" }).inputValue()).toBe(
        "gemma-4-26b-a4b-it",
      );

      // A key, and a model with the limits of one quota project.
      const [key] = await database`
        select key_alias, priority from public.google_ai_api_keys where env_var_name not like 'stage:%' order by key_alias limit 1`;
      await open("Keys and models");
      await page.getByRole("button", { name: `Change: ${key!.key_alias}`, exact: true }).click();
      const changing = page.getByRole("dialog", { name: `Change: ${key!.key_alias}` });
      await changing.getByLabel("Priority").fill("51");
      await database`update public.google_ai_api_keys set priority = 52 where key_alias = ${key!.key_alias}`;
      await changing.getByRole("button", { name: "Save" }).click();
      await changing.getByRole("alert").getByRole("row", { name: "Priority 51 52" }).waitFor();
      expect(await accessibilityProblems(page, "light")).toEqual([]);
      await changing.getByRole("button", { name: "Take what is there" }).click();
      expect(await changing.getByLabel("Priority").inputValue()).toBe("52");
      await changing.getByLabel("Priority").fill(String(key!.priority));
      await changing.getByRole("button", { name: "Save" }).click();
      await changing.waitFor({ state: "detached" });

      const model = "gemma-4-26b-a4b-it";
      const [{ quota_key }] = await database`
        select quota_key from public.google_ai_api_keys where key_alias = ${key!.key_alias}` as unknown as [
        { quota_key: string },
      ];
      await page.getByRole("button", { name: `Change: ${model}` }).click();
      const limits = page.getByRole("dialog", { name: `Change: ${model}` });
      await limits.getByRole("combobox", { name: "Limits of" }).click();
      await page.getByRole("option", { name: quota_key, exact: true }).click();
      await limits.getByLabel("Requests a day").fill("77");
      await database`select public.eve_limits_set(${database.json([{ model, rpd: 88 }])}, ${quota_key})`;
      await limits.getByRole("button", { name: "Save" }).click();
      await limits.getByRole("alert").getByRole("row", { name: "Requests a day 77 88" }).waitFor();
      const rpd = async () =>
        (await database`select rpd from eve.quota_overrides where quota_project = ${quota_key} and model = ${model}`)
          .map(({ rpd }) => rpd);
      expect(await rpd()).toEqual([88]);
      await limits.getByRole("button", { name: /Keep mine/ }).click();
      await limits.getByRole("button", { name: "Save" }).click();
      await limits.waitFor({ state: "detached" });
      expect(await rpd()).toEqual([77]);

      // They are taken away only as they were seen.
      await page.getByRole("button", { name: `Change: ${model}` }).click();
      await limits.getByRole("combobox", { name: "Limits of" }).click();
      await page.getByRole("option", { name: quota_key, exact: true }).click();
      await expect.poll(() => limits.getByLabel("Requests a day").inputValue()).toBe("77");
      await database`select public.eve_limits_set(${database.json([{ model, rpd: 99 }])}, ${quota_key})`;
      await limits.getByRole("button", { name: "As in all quota projects again" }).click();
      await limits.getByRole("alert").getByRole("row", { name: "Requests a day 77 99" }).waitFor();
      expect(await rpd()).toEqual([99]);
      await limits.getByRole("button", { name: /Keep mine/ }).click();
      await limits.getByRole("button", { name: "As in all quota projects again" }).click();
      await limits.waitFor({ state: "detached" });
      expect(await rpd()).toEqual([]);
    } finally {
      await database`delete from eve.quota_overrides`;
      await database.end();
    }
  });

  test("a key of Google's is entered itself: tested first, used by the next call, and shown nowhere", async () => {
    const database = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
    try {
      await open("Keys and models");
      await page.getByRole("button", { name: "Add key" }).click();
      const adding = page.getByRole("dialog", { name: "Add key" });
      await adding.getByLabel("Alias").fill("entered");
      await adding.getByText("The key itself", { exact: true }).click();
      await adding.getByLabel("API key").fill("no-such-key-0123");
      await adding.getByLabel("Priority").fill("1");
      await adding.getByRole("button", { name: "Add key" }).click();
      await page.getByText(/Google rejects it/).first().waitFor();
      expect(await adding.getByLabel("API key").inputValue()).toBe("no-such-key-0123");
      await adding.getByLabel("API key").fill("demo-key-c");
      await adding.getByRole("button", { name: "Test", exact: true }).click();
      await adding.getByRole("status").getByText(/^Google accepts the key/).waitFor();
      expect(await accessibilityProblems(page, "light")).toEqual([]);
      await adding.getByRole("button", { name: "Add key" }).click();
      await adding.waitFor({ state: "detached" });
      await page.getByRole("row", { name: /^entered/ }).getByText("stored here, …ey-c").waitFor();
      expect(await page.content()).not.toContain("demo-key-c");
      await (await stack.invoke("llm-invoke", { model: "gemma-4-31b-it", prompt: "Hello" })).body?.cancel();
      await expect.poll(async () =>
        (await database`
          select from eve.requests r join eve.attempts a on a.request_no = r.request_no join public.google_ai_api_keys k on k.id = a.key_id
          where k.key_alias = 'entered' and r.state = 'succeeded'`).length
      ).toBeGreaterThan(0);

      // Another one takes its place, unless somebody was quicker.
      await page.getByRole("button", { name: "Change: entered", exact: true }).click();
      const changing = page.getByRole("dialog", { name: "Change: entered" });
      await changing.getByText("A key ending in ey-c is saved").waitFor();
      await changing.getByLabel("API key").fill("demo-key-b");
      const [key] =
        await database`select id, env_var_name from public.google_ai_api_keys where key_alias = 'entered'`;
      const body = { id: key!.id, seen: {}, changes: {}, api_key: "demo-key-a" };
      expect((await stack.invoke("admin/keys/change", body)).status).toBe(200);
      await changing.getByRole("button", { name: "Save" }).click();
      await changing.getByRole("alert").getByRole("row", { name: /…ey-b .*…ey-a/ }).waitFor();
      await changing.getByRole("button", { name: /Keep mine/ }).click();
      await changing.getByRole("button", { name: "Save" }).click();
      await changing.waitFor({ state: "detached" });
      await page.getByRole("row", { name: /^entered/ }).getByText("stored here, …ey-b").waitFor();
    } finally {
      await database`delete from public.google_ai_api_keys where key_alias = 'entered'`;
      await database.end();
    }
  });

  test("a table of limits is pasted, what it changes is shown, and then changed", async () => {
    const database = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
    const [before] =
      await database`select rpm, tpm, rpd from public.google_ai_model_limits where model = 'gemini-3.5-flash'`;
    try {
      await open("Keys and models");
      await page.getByRole("button", { name: "Import limits" }).click();
      const importing = page.getByRole("dialog", { name: "Import limits" });
      const table = importing.getByLabel("Table of limits");
      await table.fill("Model,RPM,TPM,RPD\nGemini 3.5 Flash,many,250K,20");
      await importing.getByRole("button", { name: "Show what it changes" }).click();
      await importing.getByText(/^Line 2: RPM of Gemini 3.5 Flash/).waitFor();
      await table.fill("Model,RPM,TPM,RPD\nGemini 3.5 Flash,7,250K,20\nNobody Knows,1,1,1");
      await importing.getByRole("button", { name: "Show what it changes" }).click();
      await importing.getByRole("row", { name: /^gemini-3.5-flash 5 → 7 250,000 20/ }).waitFor();
      await importing.getByText("Not here, passed over: Nobody Knows.").waitFor();
      expect(await accessibilityProblems(page, "light")).toEqual([]);
      // Somebody was quicker: what is shown is compared again, and nothing is written over unseen.
      await database`update public.google_ai_model_limits set rpm = 6 where model = 'gemini-3.5-flash'`;
      await importing.getByRole("button", { name: "Change 1 model" }).click();
      await importing.getByRole("row", { name: /^gemini-3.5-flash 6 → 7/ }).waitFor();
      await importing.getByRole("button", { name: "Change 1 model" }).click();
      await importing.waitFor({ state: "detached" });
      await page.getByRole("row", { name: /^gemini-3.5-flash 7 250,000 20/ }).waitFor();
    } finally {
      await database`update public.google_ai_model_limits set ${
        database(before as Record<string, number>)
      } where model = 'gemini-3.5-flash'`;
      await database.end();
    }
  });

  test("a key that the provider refuses is not told as good news", async () => {
    await open("Providers");
    const poem = stage("POEM");
    await poem.locator("input[type=password]").fill("no-such-key");
    await poem.getByRole("button", { name: "Save" }).click();
    await page.getByText(/POEM is saved, and does not work yet \(key invalid\)/).waitFor();
    await poem.locator("input[type=password]").fill("demo-key-c");
    await poem.getByRole("button", { name: "Save" }).click();
    await page.getByText("POEM is saved.", { exact: true }).first().waitFor();
    await expect.poll(() => poem.getByText("active", { exact: true }).count()).toBe(1);
  });

  test("what fails says so, and nothing typed is lost: no answer, a part that does not load, a session that ends", async () => {
    const other = await openPage(browser);
    const { page } = other;
    await signIn(page, stack.console!.url, stack.console!.administrator);
    await page.getByRole("heading", { level: 1 }).waitFor();
    const link = (name: string) =>
      page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name }).click();
    await link("Quota");
    await page.getByRole("region", { name: /^gemma-4-31b-it/ }).first().waitFor();
    await page.route("**/functions/v1/admin/**", (route) => route.abort());
    await page.getByText(/^As of \d\d:\d\d:\d\d: the project does not answer/).waitFor();
    expect(await page.getByRole("region", { name: /^gemma-4-31b-it/ }).count()).toBeGreaterThan(0);
    await page.unrouteAll();
    await expect.poll(() => page.getByText(/^As of/).count()).toBe(0);

    await page.route("**/assets/usage-*.js", (route) => route.abort());
    await link("Usage");
    await page.getByText("This page could not be shown").waitFor();
    await link("Quota");
    await page.getByRole("heading", { level: 1, name: "Quota" }).waitFor();
    await page.unrouteAll();
    await link("Usage");
    const missing = page.getByRole("alert").filter({ hasText: "A part of this page could not be shown" });
    // Charts are loaded by themselves: without them the figures are there.
    await (await stack.invoke("llm-invoke", { model: "gemma-4-31b-it", prompt: "Hello" })).body?.cancel();
    await page.route("**/assets/series_chart-*.js", (route) => route.abort());
    await page.getByRole("button", { name: "Load again" }).click();
    await page.getByRole("heading", { level: 1, name: "Usage" }).waitFor();
    await missing.waitFor();
    await page.getByRole("rowheader", { name: "Σ" }).waitFor();
    await page.unrouteAll();
    await missing.getByRole("button", { name: "Load again" }).click();
    await page.getByRole("rowheader", { name: "Σ" }).waitFor();
    expect(await missing.count()).toBe(0);

    // What is loaded by itself takes neither its page nor the menu along.
    await page.route(/\/assets\/(find|day_curve|series_chart)-.*\.js/, (route) => route.abort());
    await page.keyboard.press("Control+K");
    await missing.waitFor();
    expect(await page.getByRole("heading", { level: 1, name: "Usage" }).isVisible()).toBe(true);
    await missing.getByRole("button", { name: "Close" }).click();
    await missing.waitFor({ state: "detached" });
    await link("Quota");
    await missing.waitFor();
    await page.getByRole("region", { name: /^gemma-4-31b-it/ }).first().waitFor();
    await page.unrouteAll();

    await link("Consumers");
    await page.getByRole("button", { name: "Add consumer" }).click();
    await page.getByRole("dialog", { name: "Add consumer" }).getByLabel("Name").fill("half-typed");
    await page.route(
      "**/functions/v1/admin/**",
      (route) =>
        route.fulfill({ status: 401, json: { error: { code: "credential_invalid", message: "no" } } }),
    );
    const again = page.getByRole("dialog", { name: "Your session is over" });
    await again.getByLabel("E-mail").fill(stack.console!.administrator.email);
    await page.keyboard.press("Escape");
    await again.locator("input[type=password]").fill(stack.console!.administrator.password);
    await page.unrouteAll();
    await again.getByRole("button", { name: "Sign in" }).click();
    await again.waitFor({ state: "detached" });
    expect(await page.getByRole("dialog", { name: "Add consumer" }).getByLabel("Name").inputValue()).toBe(
      "half-typed",
    );

    await page.context().setOffline(true);
    await page.getByText("You are offline").waitFor();
    await page.context().setOffline(false);
    await expect.poll(() => page.getByText("You are offline").count()).toBe(0);
    await page.context().close();
  });

  test("on every page with a list one is told as soon as there is no answer, before it is asked for again", async () => {
    const other = await openPage(browser);
    const { page } = other;
    try {
      // Asked for the third time nobody answers, and nobody gives up: what waits for that is never noAnswer.
      await page.addInitScript("AbortSignal.timeout = () => new AbortController().signal");
      await signIn(page, stack.console!.url, stack.console!.administrator);
      await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
      const asked = new Map<string, number>();
      await page.route(/functions\/v1\/(admin|api)\//, async (route) => {
        const url = route.request().url();
        asked.set(url, (asked.get(url) ?? 0) + 1);
        if (asked.get(url)! <= 2) await route.abort();
      });
      const noAnswer = page.getByRole("main").getByText(/project does not answer/).first();
      const showsNoAnswer = async (address: string, heading: string) => {
        asked.clear();
        await page.evaluate(`location.hash = "#${address}"`);
        await page.getByRole("heading", { level: 1, name: heading }).waitFor();
        await noAnswer.waitFor().catch((error) => {
          throw new Error(`${address} does not say that there is no answer`, { cause: error });
        });
        expect(asked.size, address).toBeGreaterThan(0);
      };
      for (const name of PAGES.filter((name) => name !== "Playground")) {
        await showsNoAnswer(name === "Keys and models" ? "/keys" : `/${name.toLowerCase()}`, name);
      }
      await showsNoAnswer("/chats/00000000-0000-4000-8000-000000000000", "Chats");
      for (const part of ["batches", "webhooks", "dead_letters"]) {
        await page.evaluate(`location.hash = "#/playground"`);
        await page.getByRole("heading", { level: 1, name: "Playground" }).waitFor();
        await showsNoAnswer(`/jobs/part/${part}`, "Jobs");
      }
    } finally {
      await page.context().close();
    }
  });

  test("signing in to a project that does not answer is given up after eight seconds", async () => {
    const other = await openPage(browser);
    const { page } = other;
    try {
      // Eight seconds of waiting pass at once; longer ones do not.
      await page.addInitScript(`AbortSignal.timeout = (ms) => {
        const limit = new AbortController();
        if (ms <= 8000) setTimeout(() => limit.abort(new DOMException("too long", "TimeoutError")), 50);
        return limit.signal;
      }`);
      await page.route("**/auth/v1/token**", () => {});
      await signIn(page, stack.console!.url, stack.console!.administrator);
      await page.getByText(/^The project does not answer/).waitFor();
      expect(await page.getByRole("button", { name: "Sign in" }).isEnabled()).toBe(true);
    } finally {
      await page.context().close();
    }
  });

  test("a consumer is given files of a tenant, and a signed-in user becomes its member", async () => {
    const post = async (path: string, body: unknown, key: string) =>
      await (await fetch(`${stack.url}${path}`, {
        method: "POST",
        headers: { "apikey": key, "content-type": "application/json" },
        body: JSON.stringify(body),
      })).json();
    const added = { name: "archive", kind: "service" };
    const { secret } = await post("/functions/v1/admin/consumers/add", added, stack.keys.secret);
    const ann = await post(
      "/auth/v1/signup",
      { email: "ann@example.com", password: "correct horse battery" },
      stack.keys.publishable,
    );
    /** Whose room it is and how large, or why it is not told. */
    const room = async (headers: Record<string, string>) => {
      const quota = await fetch(`${stack.url}/functions/v1/api/v1/storage/quota`, { headers });
      const { tenant_id, tenant, error } = await quota.json();
      return error?.code ?? [tenant_id, tenant.limit_bytes];
    };
    const roomOfAnn = () =>
      room({ apikey: stack.keys.publishable, authorization: `Bearer ${ann.access_token}` });
    expect(await room({ apikey: secret })).toBe("credential_insufficient");

    await open("Consumers");
    const tenants = page.getByRole("region", { name: "Tenants", exact: true });
    await tenants.getByRole("button", { name: "Add tenant" }).click();
    const adding = page.getByRole("dialog", { name: "Add tenant" });
    await adding.getByLabel("Id").fill("acme");
    await adding.getByLabel("Name").fill("Acme Ltd");
    await adding.getByLabel("Storage limit, GB").fill("0.5");
    await adding.getByRole("button", { name: "Add tenant" }).click();
    await tenants.getByRole("row", { name: /^acme ?Acme Ltd 500 MB 0 0/ }).waitFor();

    await page.getByRole("button", { name: "Scope: archive" }).click();
    const scope = page.getByRole("dialog", { name: "Scope" });
    await scope.getByLabel("models", { exact: true }).uncheck();
    await scope.getByText("Choose at least one.").waitFor();
    expect(await scope.getByRole("button", { name: "Save" }).isDisabled()).toBe(true);
    await scope.getByLabel("files", { exact: true }).check();
    await scope.getByRole("combobox", { name: "Tenant" }).click();
    await page.getByRole("option", { name: "acme (Acme Ltd)" }).click();
    await scope.getByRole("button", { name: "Save" }).click();
    await page.getByRole("row", { name: /^archive service, interactive files acme all/ }).waitFor();
    await tenants.getByRole("row", { name: /^acme ?Acme Ltd 500 MB 1 0/ }).waitFor();
    expect(await room({ apikey: secret })).toEqual(["acme", 500_000_000]);

    await tenants.getByRole("button", { name: "Change: acme" }).click();
    const changing = page.getByRole("dialog", { name: "Change: acme" });
    await changing.getByLabel("Storage limit, GB").fill("");
    await post("/functions/v1/admin/tenants/change", { id: "acme", name: "Acme Inc" }, stack.keys.secret);
    await changing.getByRole("button", { name: "Save" }).click();
    await changing.getByRole("alert").getByRole("row", { name: "Name Acme Ltd Acme Inc" }).waitFor();
    await changing.getByRole("button", { name: /Keep mine/ }).click();
    await changing.getByRole("button", { name: "Save" }).click();
    await tenants.getByRole("row", { name: /^acme ?Acme Ltd as all 1 0/ }).waitFor();
    expect(await room({ apikey: secret })).toEqual(["acme", 2_000_000_000]);

    expect(await roomOfAnn()).toBe("tenant_not_allowed");
    await tenants.getByRole("button", { name: "Members: acme" }).click();
    const members = page.getByRole("dialog", { name: "Members of acme" });
    await members.getByText("No members").waitFor();
    await members.getByLabel("User id").fill(ann.user.id);
    await members.getByRole("button", { name: "Add member" }).click();
    const remove = members.getByRole("button", { name: `Remove: ${ann.user.id}` });
    await remove.waitFor();
    expect(await roomOfAnn()).toEqual(["acme", 2_000_000_000]);
    expect(await accessibilityProblems(page, "light")).toEqual([]);
    await remove.click();
    await members.getByText("No members").waitFor();
    expect(await roomOfAnn()).toBe("tenant_not_allowed");
    await members.getByRole("button", { name: "Close" }).click();
  });

  test("quota shows what the calls used", async () => {
    await open("Quota");
    const lanes = page.getByRole("region", { name: /^gemma-4-31b-it/ });
    await lanes.first().waitFor();
    // Of the last minute, which may have begun after the other tests' calls.
    await expect.poll(async () => {
      await (await stack.invoke("llm-invoke", { model: "gemma-4-31b-it", prompt: "Hello" })).body?.cancel();
      return await lanes.getByText(/^[1-9]\d* of 30$/).count();
    }).toBeGreaterThan(0);
  });

  test("a limit of a lane is changed where it is seen, and a notebook is given a token that calls", async () => {
    const database = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
    try {
      await open("Quota");
      const lane = page.getByRole("region", { name: /^gemma-4-31b-it/ }).first();
      await lane.getByRole("img", { name: /^Requests this minute: .* running \d+, booked \d+$/ }).waitFor();
      await lane.getByRole("button", { name: /^Change limits/ }).click();
      const limits = page.getByRole("dialog", { name: /^Limits of gemma-4-31b-it in / });
      await limits.getByLabel("Requests a minute").fill("29");
      expect(await accessibilityProblems(page, "light")).toEqual([]);
      await limits.getByRole("button", { name: "Save" }).click();
      await limits.waitFor({ state: "detached" });
      await lane.getByText(/ of 29$/).waitFor();
      const own = await database`select rpm from eve.quota_overrides where model = 'gemma-4-31b-it'`;
      expect(own.map(({ rpm }) => rpm)).toEqual([29]);

      await (await stack.invoke("admin/consumers/add", { name: "kaggle", kind: "notebook" })).body?.cancel();
      await open("Consumers");
      await page.getByRole("button", { name: "0: Tokens of kaggle" }).click();
      const tokens = page.getByRole("dialog", { name: "Live tokens" });
      await tokens.getByLabel("Its life, in minutes").fill("5");
      await tokens.getByLabel("Requests in all").fill("3");
      await tokens.getByRole("button", { name: "Issue a token" }).click();
      const token = (await tokens.getByTestId("token").textContent())!;
      const says = async () => {
        const answer = await fetch(`${stack.url}/functions/v1/llm-invoke`, {
          method: "POST",
          headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
          body: JSON.stringify({ model: "gemma-4-31b-it", prompt: "Hello" }),
        });
        await answer.body?.cancel();
        return answer.status;
      };
      expect(await says()).toBe(200);
      await tokens.getByText(/^1 \/ 3$/).waitFor();
      await tokens.getByRole("button", { name: "Revoke" }).click();
      await tokens.getByText("No live tokens").waitFor();
      expect(await says()).toBe(401);
      await page.keyboard.press("Escape");
    } finally {
      await database`delete from eve.quota_overrides`;
      await database.end();
    }
  });

  test("usage sums them up", async () => {
    await open("Usage");
    await page.getByRole("rowheader", { name: "Σ" }).waitFor();
    const sums = page.getByRole("row").filter({ has: page.getByRole("rowheader", { name: "Σ" }) });
    expect(await sums.getByRole("cell").first().textContent()).toMatch(/^[1-9]/);
    await page.getByRole("region", { name: "Times and errors" }).getByText(/^\d+(\.\d+)?(ms|s) \/ .* \/ \d/)
      .first().waitFor();
    await page.getByText("stage", { exact: true }).click();
    await page.getByRole("row", { name: /^POEM [1-9]/ }).waitFor();
    await page.getByText("time", { exact: true }).click();
  });

  test("the figures of the day are the same on the screen, at the command line and in SQL", async () => {
    const database = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
    const number = (value: unknown) => Number(value).toLocaleString("en-GB");
    try {
      const { secret } =
        await (await stack.invoke("admin/consumers/add", { name: "figures", kind: "service" })).json();
      for (let call = 0; call < 5; call++) {
        const answer = await fetch(`${stack.url}/functions/v1/llm-invoke`, {
          method: "POST",
          headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
          body: JSON.stringify({ model: "gemma-4-31b-it", prompt: "Hello", request_id: `figure-${call}` }),
        });
        expect(answer.status).toBe(200);
        await answer.body?.cancel();
      }
      // They end a moment after their answers.
      await expect.poll(async () => {
        const [ended] = await database`select count(*) from eve.requests where request_id like 'figure-%'`;
        return ended!.count;
      }).toBe("5");
      // One of each kind, thinking among their tokens, and two refusals.
      const id = database`(select id from eve.consumers where name = 'figures')`;
      await database`
        update eve.requests r
        set thoughts_tokens = 1000, total_tokens = r.input_tokens + r.output_tokens + 1000,
          state = (array['succeeded', 'succeeded', 'failed', 'cancelled', 'expired'])[1 + right(r.request_id, 1)::integer]
        where r.consumer_id = ${id}`;
      await database`
        insert into eve.refusals (refused_at, request_id, attempt, consumer_id, class, endpoint, model, code, tokens)
        select now(), 'refused-' || n, 1, ${id}, 'interactive', 'native', 'gemma-4-31b-it', 'rate_limited', 1
        from generate_series(1, 2) n`;
      await database`select public.eve_rollup_rebuild()`;
      const [sums] = await database`
        select count(*) as requests, count(*) filter (where state = 'succeeded') as succeeded,
          sum(input_tokens) as input, sum(output_tokens + thoughts_tokens) as output
        from eve.requests r
        where r.consumer_id = ${id} and r.received_at >= eve.pacific_day(eve.clock_ms())::timestamp at time zone 'America/Los_Angeles'`;
      expect(sums).toMatchObject({ requests: "5", succeeded: "2" });

      const said: string[] = [];
      const dependencies = {
        say: (text: string) => said.push(text),
        complain: (text: string) => said.push(text),
        connect: () => connect(stack.url, stack.keys.secret),
      };
      expect(await eve(["usage", "--by", "consumer", "--since", "today", "--json"], dependencies)).toBe(0);
      const rows = JSON.parse(said.splice(0).join("\n")).rows as Record<string, number>[];
      const row = rows.find(({ consumer }) => consumer as unknown === "figures")!;
      expect([row.requests, row.succeeded, row.failed, row.cancelled, row.expired, row.refused]).toEqual([
        5,
        2,
        1,
        1,
        1,
        2,
      ]);
      expect([row.input_tokens, row.output_tokens! + row.thoughts_tokens!]).toEqual([
        Number(sums!.input),
        Number(sums!.output),
      ]);
      expect(await eve(["consumers", "show", "figures", "--json"], dependencies)).toBe(0);
      const shown = JSON.parse(said.splice(0).join("\n"));
      expect([shown.requests_today, shown.tokens_today]).toEqual([
        5,
        Number(sums!.input) + Number(sums!.output),
      ]);
      expect(await eve(["requests", "list", "--consumer", "figures", "--json"], dependencies)).toBe(0);
      const listed = JSON.parse(said.splice(0).join("\n")).requests as { request_id: string }[];

      await open("Usage");
      await page.getByText("Today (Pacific)").click();
      await page.getByText("consumer", { exact: true }).click();
      const usage = page.getByRole("row").filter({ has: page.getByRole("rowheader", { name: "figures" }) });
      await expect.poll(async () => (await usage.getByRole("cell").allTextContents()).slice(0, 8)).toEqual(
        [5, 2, 1, 1, 1, 2, sums!.input, sums!.output].map(number),
      );
      await open("Consumers");
      await page.getByLabel("Name or tenant").fill("figur");
      const consumer = page.getByRole("row").filter({ hasText: "figures" });
      await consumer.waitFor();
      const cells = await consumer.getByRole("cell").allTextContents();
      expect(cells.slice(5, 7)).toEqual(["5", number(Number(sums!.input) + Number(sums!.output))]);
      await page.getByLabel("Name or tenant").fill("");
      await open("Requests");
      await page.getByLabel("Consumer", { exact: true }).fill("figures");
      await expect.poll(() => page.getByRole("table", { name: "Requests" }).getByRole("row").count()).toBe(8);
      const ids = await page.getByRole("table", { name: "Requests" }).getByRole("row").locator(
        "td:last-child",
      )
        .allTextContents();
      expect(ids).toEqual(listed.map(({ request_id }) => request_id));
      expect(ids.slice(0, 2).every((id) => id.startsWith("refused-"))).toBe(true);
      // Input and all that was paid for of the answer: thinking too.
      const last = page.getByRole("row").filter({ hasText: "figure-4" });
      const [paid] = await database`
        select input_tokens || ' / ' || output_tokens + 1000 as tokens from eve.requests where request_id = 'figure-4'`;
      expect((await last.getByRole("cell").nth(4).textContent())!.replaceAll(",", "")).toBe(paid!.tokens);

      // What was filtered is in the address, and in the file.
      await page.getByLabel("Error code").fill("rate_limited");
      await expect.poll(() => page.getByRole("table", { name: "Requests" }).getByRole("row").count()).toBe(3);
      await page.reload();
      await expect.poll(() => page.getByRole("table", { name: "Requests" }).getByRole("row").count()).toBe(3);
      const saved = page.waitForEvent("download");
      await page.getByRole("button", { name: "Save as CSV" }).click();
      const lines = (await Deno.readTextFile(await (await saved).path())).trim().split("\r\n");
      expect(lines).toHaveLength(3);
      expect(lines.every((line, n) => n === 0 || line.includes("refused-"))).toBe(true);
      await page.getByLabel("Error code").fill("");
      await page.getByLabel("Consumer", { exact: true }).fill("");

      await database`
        update eve.lanes set blocked_until = now() + interval '1 hour', blocked_reason = 'upstream_minute_quota'
        where model = 'gemma-4-31b-it'`;
      await open("Quota");
      const lane = page.getByRole("region", { name: /^gemma-4-31b-it/ }).first();
      await lane.getByText(/ 0 free now/).waitFor();
      await lane.getByText(/upstream said that the minute's quota is used up/).waitFor();
    } finally {
      await database`update eve.lanes set blocked_until = null, blocked_reason = null`;
      await database.end();
    }
  });

  test("bad requests, what was waited, a budget's tokens and a closed lane are told alike on the screen, at the command line and in SQL", async () => {
    const database = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
    const said: string[] = [];
    const say = (text: string) => said.push(text);
    const dependencies = { say, complain: say, connect: () => connect(stack.url, stack.keys.secret) };
    const run = async (...words: string[]) => {
      expect(await eve([...words, "--json"], dependencies), said.join("\n")).toBe(0);
      return JSON.parse(said.splice(0).join("\n"));
    };
    try {
      const added = await stack.invoke("admin/consumers/add", {
        name: "alike",
        kind: "service",
        tokens_per_day: 100_000,
      });
      const { secret } = await added.json();
      const ask = async (body: string) => {
        const answer = await fetch(`${stack.url}/functions/v1/llm-invoke`, {
          method: "POST",
          headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
          body,
        });
        await answer.body?.cancel();
        return answer.status;
      };
      for (let n = 0; n < 3; n++) expect(await ask("{")).toBe(400);
      expect(await ask(JSON.stringify({ model: "gemma-4-31b-it", prompt: "Hello", request_id: "alike" })))
        .toBe(200);
      const sums = async () =>
        (await database`
          select (select sum(b.times)::integer from eve.bad_requests b where b.subject = 'alike' and b.code = 'invalid_json') as bad,
            d.tokens::integer as tokens, r.output_tokens + coalesce(r.thoughts_tokens, 0) as out
          from eve.consumers c
          join eve.requests r on r.consumer_id = c.id
          left join eve.consumer_days d on d.consumer_id = c.id
          where c.name = 'alike'`)[0];
      await expect.poll(sums).toMatchObject({ bad: 3, tokens: expect.any(Number) });
      const { tokens, out } = (await sums())!;
      expect(tokens).toBeGreaterThan(out);
      await database`update eve.requests set wait_ms = 352 where request_id = 'alike'`;

      const { errors } = await run("requests", "errors", "--consumer", "alike", "--since", "24h");
      expect(errors).toMatchObject([{ code: "invalid_json", consumer: "alike", times: 3 }]);
      const { requests } = await run("requests", "list", "--consumer", "alike");
      expect(requests).toMatchObject([{ request_id: "alike", wait_ms: 352 }]);
      const shown = await run("consumers", "show", "alike");
      expect([shown.tokens_of_budget, shown.tokens_per_day]).toEqual([tokens, 100_000]);

      await open("Requests");
      const bad = page.getByRole("table", { name: "Refused for what they are" }).getByRole("row");
      await expect.poll(() => bad.allTextContents()).toContain("invalid_jsonalike3");
      // What was looked for before may still be in the address.
      await page.getByLabel("Error code").fill("");
      await page.getByLabel("Consumer", { exact: true }).fill("alike");
      const row = page.getByRole("table", { name: "Requests" }).getByRole("row").filter({ hasText: "alike" });
      await row.getByText("352ms", { exact: true }).waitFor();
      await page.getByLabel("Consumer", { exact: true }).fill("");
      await open("Consumers");
      await page.getByLabel("Name or tenant").fill("alike");
      await page.getByText(`${tokens.toLocaleString("en-GB")} of 100,000`, { exact: true }).waitFor();
      await page.getByLabel("Name or tenant").fill("");

      await database`
        update eve.lanes set blocked_until = now() + interval '1 hour', blocked_reason = 'upstream_minute_quota'
        where model = 'gemma-4-31b-it'`;
      const [lane] = await database`
        select lane ->> 'free' as free, lane ->> 'state' as state
        from jsonb_array_elements(public.eve_lane_states(model => 'gemma-4-31b-it')) lane limit 1`;
      expect(lane).toEqual({ free: "0", state: "paused" });
      const { lanes } = (await run("keys", "list") as { lanes: { model: string }[] }[])
        .find((key) => key.lanes.some(({ model }) => model === "gemma-4-31b-it"))!;
      expect(lanes).toContainEqual(
        expect.objectContaining({ model: "gemma-4-31b-it", free: 0, state: "paused" }),
      );
      await open("Quota");
      await page.getByRole("region", { name: /^gemma-4-31b-it/ }).first().getByText(/ 0 free now/).waitFor();
    } finally {
      await database`update eve.lanes set blocked_until = null, blocked_reason = null`;
      await database`delete from eve.requests where request_id = 'alike'`;
      await database.end();
    }
  });

  test("the overview says how the last hour went, what is tight and left, and leads to a first call", async () => {
    const database = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
    try {
      const [hour] = await database`
        select count(*)::integer as requests, count(*) filter (where state = 'failed')::integer as failed,
          percentile_disc(0.95) within group (order by wait_ms)::integer as p95
        from eve.requests where finished_at > eve.clock() - interval '1 hour'`;
      await open("Overview");
      const part = page.getByRole("region", { name: "The last hour", exact: true });
      await part.waitFor();
      await expect.poll(() => part.textContent()).toContain(`Requests ended${hour!.requests}`);
      expect(await part.textContent()).toContain(`Failed${hour!.failed}`);
      const left = page.getByRole("region", { name: "Left of Google's day" });
      const [lane] = await database`
        select sum((one -> 'requests_day' ->> 'remaining')::integer)::integer as remaining
        from jsonb_array_elements(public.eve_lane_states(model => 'gemma-4-31b-it')) one`;
      const row = left.getByRole("row").filter({ hasText: "gemma-4-31b-it" });
      await expect.poll(async () => (await row.getByRole("cell").first().textContent())!.replaceAll(",", ""))
        .toBe(String(lane!.remaining));
      await part.getByRole("link", { name: /^rate_limited: [1-9]/ }).click();
      await expect.poll(() => page.getByLabel("Error code").inputValue()).toBe("rate_limited");
      await page.getByLabel("Error code").fill("");

      // By Ctrl+K, from any page, to a request, by its caller's name for it.
      await page.keyboard.press("Control+K");
      const finding = page.getByRole("dialog", { name: "Find an id" });
      await finding.getByLabel("Id").fill("figure-0");
      expect(await accessibilityProblems(page, "light")).toEqual([]);
      await finding.getByRole("link", { name: /^Request · figure-0/ }).click();
      const detail = page.getByRole("dialog", { name: /^Request/ });
      await detail.getByText("figure-0").first().waitFor();
      await detail.getByRole("img", { name: /^1: waited/ }).waitFor();
      expect(await accessibilityProblems(page, "light")).toEqual([]);
      await detail.getByRole("button", { name: "Run again in Playground" }).click();
      await expect.poll(() => page.getByRole("combobox", { name: "Model or stage" }).inputValue()).toBe(
        "gemma-4-31b-it",
      );
    } finally {
      await database.end();
    }
  });

  test("the overview calls well only what it knows: alerts that are not answered and keys that are blocked are told", async () => {
    const database = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
    const other = await openPage(browser);
    const { page } = other;
    try {
      // What other tests have left wrong is over.
      await database`update eve.alerts set closed_at = now() where closed_at is null`;
      await database`update eve.requests set finished_at = finished_at - interval '2 hours' where state = 'failed'`;
      await signIn(page, stack.console!.url, stack.console!.administrator);
      const health = page.getByRole("region", { name: "Health", exact: true });
      await health.getByText("All is well").waitFor();
      await page.route("**/functions/v1/admin/alerts?*", (route) => route.abort());
      await page.reload();
      await health.getByText("No answer yet about: Alerts.").waitFor();
      await health.getByText("Not known", { exact: true }).waitFor();
      expect(await health.getByText("All is well").count()).toBe(0);
      // For lack of an answer nothing of what is known to be wrong is left out.
      const [key] = await database`
        update public.google_ai_api_keys set blocked_until = eve.clock() + interval '1 hour', blocked_reason = 'permission_denied'
        where id = (select id from public.google_ai_api_keys where is_active and env_var_name not like 'stage:%' order by priority limit 1)
        returning key_alias`;
      await page.reload();
      await health.getByText("Something needs you").waitFor();
      await health.getByText(
        new RegExp(
          `^Key ${key!.key_alias} is not used until .*: upstream did not allow it, and did not say why$`,
        ),
      ).waitFor();
      await page.unrouteAll();
      await expect.poll(() => health.getByText(/No answer yet/).count()).toBe(0);
    } finally {
      await database`
        update public.google_ai_api_keys set blocked_until = null, blocked_reason = null
        where blocked_reason = 'permission_denied'`;
      await page.context().close();
      await database.end();
    }
  });

  test("a key is tested before it is added, by its secret's name, and none of the gateway's own secrets is taken for one", async () => {
    const database = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
    try {
      const [known] = await database`
        select env_var_name from public.google_ai_api_keys where is_active and env_var_name not like 'stage:%' limit 1`;
      await open("Keys and models");
      await page.getByRole("button", { name: "Add key" }).click();
      const adding = page.getByRole("dialog", { name: "Add key" });
      await adding.getByLabel("Alias").fill("second");
      await adding.getByLabel("Secret's name").fill("NO_SUCH_KEY");
      await adding.getByRole("button", { name: "Test" }).click();
      await adding.getByText("The project has no secret of that name.").waitFor();
      await adding.getByLabel("Secret's name").fill("EVE_PEPPER");
      await adding.getByRole("button", { name: "Add key" }).click();
      await page.getByText(/is reserved/).first().waitFor();
      await adding.getByLabel("Secret's name").fill(known!.env_var_name);
      await adding.getByRole("button", { name: "Test" }).click();
      await adding.getByText(/^Google accepts the key and offers [1-9]\d* models/).waitFor();
      await adding.getByLabel("Quota project").fill("second-project");
      expect(await accessibilityProblems(page, "light")).toEqual([]);
      await adding.getByRole("button", { name: "Add key" }).click();
      await adding.waitFor({ state: "detached" });
      const row = page.getByRole("row").filter({ has: page.getByRole("rowheader", { name: "second" }) });
      await row.getByText("second-project").waitFor();
    } finally {
      await database`delete from public.google_ai_api_keys where key_alias = 'second'`;
      await database.end();
    }
  });

  test("what a model costs is set, and usage tells it, never unknown as nothing", async () => {
    const database = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
    try {
      await database`select public.eve_price_set('gemma-4-31b-it')`;
      const [used] = await database`
        select sum(input_tokens)::integer as input, sum(output_tokens + coalesce(thoughts_tokens, 0))::integer as output
        from eve.requests r
        where r.consumer_id = (select id from eve.consumers where name = 'figures')`;
      await open("Usage");
      await page.getByText("Today (Pacific)").click();
      await page.getByText("consumer", { exact: true }).click();
      const row = page.getByRole("row").filter({ has: page.getByRole("rowheader", { name: "figures" }) });
      await expect.poll(() => row.getByRole("cell").last().textContent()).toBe("unknown");
      await page.getByRole("button", { name: "Prices" }).click();
      const prices = page.getByRole("dialog", { name: "Prices" });
      await prices.getByRole("button", { name: "Change: gemma-4-31b-it" }).click();
      await prices.getByLabel("Input, $", { exact: true }).fill("1000");
      await prices.getByLabel("Output, $").fill("2000");
      await prices.getByRole("button", { name: "Save" }).click();
      await page.keyboard.press("Escape");
      const cost = (used!.input * 1000 + used!.output * 2000) / 1e6;
      await expect.poll(async () =>
        Number((await row.getByRole("cell").last().textContent())!.replace(/[^\d.]/g, ""))
      )
        .toBeCloseTo(cost, 3);
    } finally {
      await database.end();
    }
  });

  test("storage shows what is used, and cleans up after showing what would be deleted", async () => {
    const store = (kind: string, content: string) =>
      fetch(`${stack.url}/functions/v1/api/v1/media?kind=${kind}`, {
        method: "POST",
        headers: { "apikey": stack.keys.secret, "content-type": "application/octet-stream" },
        body: content.repeat(1_000),
      });
    expect((await store("media", "a")).status).toBe(201);
    expect((await store("crawl", "b")).status).toBe(201);
    const database = postgres(stack.databaseUrl, { max: 1 });
    const kinds = async () =>
      (await database`select kind from public.media_objects order by kind`).map(({ kind }) => kind);
    try {
      await database`update public.media_objects set last_seen_at = now() - interval '5 days' where kind = 'crawl'`;
      await open("Storage");
      const part = (name: string) => page.getByRole("region", { name, exact: true });
      await part("Room by kind").getByRole("progressbar", { name: "Crawled pages: 1 kB of 2 GB" }).waitFor({
        state: "attached",
      });
      await part("Room by kind").getByText("2 files, 0 byte reserved, 15 GB free").waitFor();
      await part("Room by tenant").getByRole("row", { name: /^default 2 2 kB 2 GB/ }).waitFor();
      await part("Growth").getByText("2 kB of what is there came in the last 7 days, 2 kB in the last 30.")
        .waitFor();
      const next = part("What would go next").getByRole("row");
      await next.filter({ hasText: "Crawled pages" }).waitFor();
      expect(await next.allTextContents()).toEqual([
        "WhatOlder thanFilesSize",
        "Crawled pages3 days11 kB",
        "Media0 days11 kB",
      ]);

      const cleanup = part("Clean up");
      const target = cleanup.getByLabel("So much is to be free, GB");
      // The limit is 15 GB, of which 2,000 bytes are used: one file has to go.
      await database`update eve.media_limits set limit_bytes = 15000001500 where name = 'total'`;
      await target.fill("15");
      await cleanup.getByRole("button", { name: "Show what would be deleted" }).click();
      await cleanup.getByText("Files that would be deleted: 1, 1 kB. In use then: 1 kB.").waitFor();
      expect(await kinds()).toEqual(["crawl", "media"]);
      // Another number is another clean-up.
      await target.fill("14");
      await expect.poll(() => cleanup.getByRole("button", { name: "Delete these files" }).count()).toBe(0);
      await cleanup.getByRole("button", { name: "Show what would be deleted" }).click();
      await cleanup.getByText("Nothing has to be deleted").waitFor();
      await target.fill("15");
      await cleanup.getByRole("button", { name: "Show what would be deleted" }).click();
      await cleanup.getByRole("button", { name: "Delete these files" }).click();
      await cleanup.getByText("Files deleted: 1, 1 kB. In use now: 1 kB. So much is free.").waitFor();
      expect(await kinds()).toEqual(["media"]);
      await part("Room by kind").getByRole("progressbar", { name: "Crawled pages: 0 byte of 2 GB" }).waitFor({
        state: "attached",
      });
    } finally {
      await database.end();
    }
  });

  test("vision shows what was found, why and for how much, what is left of budgets, and has failures looked at once more", async () => {
    const database = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
    const headers = { apikey: stack.keys.secret };
    const call = (path: string, init: RequestInit) =>
      fetch(`${stack.url}/functions/v1/api/v1/${path}`, {
        ...init,
        headers: { ...headers, ...init.headers },
      });
    const json = { "content-type": "application/json" };
    try {
      const put = (limit: unknown) =>
        call("vision/budgets", { method: "PUT", headers: json, body: JSON.stringify({ budgets: limit }) });
      expect((await put([{ period: "day", unit: "pictures", most: 4 }])).status).toBe(200);
      const form = new FormData();
      form.set("post", JSON.stringify({ source: "console", external_id: "1" }));
      for (const seed of [1, 2]) form.append("media", new Blob([pngOf(scene(seed, 90, 80))]), `${seed}`);
      const post = await (await call("intake/posts", { method: "POST", body: form })).json();
      const rows = () =>
        database`select file_sha256, status from public.post_enrichment where post_id = ${post.id} order by status`;
      await expect.poll(async () => (await rows()).map(({ status }) => status), {
        timeout: 60_000,
        interval: 500,
      })
        .toEqual(["done", "done"]);
      await database`
        update public.post_enrichment set vision_description = 'A stage at night', labels = '{concert}', tokens = 1234
        where post_id = ${post.id} and file_sha256 = ${post.media[0]}`;
      await database`
        update public.post_enrichment set status = 'failed', vision_description = null, ocr_text = null, reason = 'nobody came'
        where post_id = ${post.id} and file_sha256 = ${post.media[1]}`;
      // Where files are in S3 their addresses are on another origin, of which a page may show pictures and read nothing.
      await page.route("**/api/v1/media/*/url?*", async (route) => {
        const { url, ...rest } = await (await route.fetch()).json();
        await route.fulfill({ json: { ...rest, url: url.replace("//127.0.0.1:", "//localhost:") } });
      });
      await open("Vision");
      const found = page.getByRole("article", { name: "A stage at night" });
      await found.getByText("concert").waitFor();
      await found.getByText(/1,234 tokens/).waitFor();
      await found.getByText(/^Decision: It looks small/).waitFor();
      const shown = await found.getByRole("img").elementHandle() as unknown as ElementHandle<
        { src: string; naturalWidth: number }
      >;
      expect(new URL(await shown.evaluate(({ src }) => src)).hostname).toBe("localhost");
      await expect.poll(() => shown.evaluate(({ naturalWidth }) => naturalWidth)).toBe(90);
      await page.getByRole("region", { name: "Budgets" }).getByText("All together: 2 of 4 pictures a day")
        .waitFor();
      const failed = page.getByRole("article").filter({ hasText: "nobody came" });
      await failed.getByRole("button", { name: "Look once more" }).click();
      await page.getByText("They will be looked at once more.").waitFor();
      await expect.poll(async () => (await rows()).map(({ status }) => status), {
        timeout: 60_000,
        interval: 500,
      })
        .toEqual(["done", "done"]);
    } finally {
      await page.unroute("**/api/v1/media/*/url?*");
      await call("vision/budgets", { method: "PUT", headers: json, body: JSON.stringify({ budgets: [] }) });
      await database.end();
    }
  });

  test("a message of Telegram with two pictures and a link is drawn with its pictures and its article, in one trace", async () => {
    const database = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
    try {
      const sent = await fetch(`${stack.url}/emulator/telegram/messages`, {
        method: "POST",
        body: JSON.stringify({
          text: `Concert tonight: ${stack.url}/emulator/page?utm_source=tg`,
          photos: [21, 22].map((seed) => toBase64(pngOf(scene(seed, 90, 80)))),
        }),
      });
      expect(sent.status).toBe(201);
      // The stack of the tests has no schedule.
      const nodes = async () => {
        await database`select public.eve_graph_deliver()`;
        return await database`
          select n.kind, n.trace_id, n.properties ->> 'title' as title, n.key
          from public.posts p
          join eve.telegram_updates u on u.trace_id = p.trace_id
          join public.graph_nodes n on n.trace_id = p.trace_id
          where p.text like 'Concert tonight%'
          group by n.id order by n.kind, n.key`;
      };
      await expect.poll(
        async () =>
          (await nodes()).map(({ kind, title }) => [kind, ...(title === null ? [] : [title])].join(" ")),
        { timeout: 60_000, interval: 500 },
      ).toEqual(
        expect.arrayContaining([
          "Article An evening in the park",
          "Channel",
          "Domain",
          "ImageContent",
          "Post",
        ]),
      );
      await expect.poll(
        async () =>
          (await database`
          select e.status from public.post_enrichment e
          join public.posts p on p.id = e.post_id and p.trace_id = e.trace_id where p.text like 'Concert tonight%'`)
            .map((row) => ({ ...row })),
        { timeout: 60_000, interval: 500 },
      ).toEqual([1, 2].map(() => ({ status: "done" })));
      const post = (await nodes()).find(({ kind }) => kind === "Post")!;
      expect((await nodes()).filter(({ kind }) => kind === "ImageContent")).toHaveLength(2);
      expect(post.trace_id).toMatch(/^[0-9a-f]{32}$/);
      await open("Graph");
      await page.getByRole("link", { name: /^Concert tonight/ }).click();
      await page.getByRole("figure", { name: /^Concert tonight.*the list beside/ }).waitFor();
      await page.locator(".graph-drawing canvas").first().waitFor();
      await page.getByText(`Trace ${post.trace_id}`).waitFor();
      await expect.poll(() => page.getByRole("region", { name: "Pictures" }).getByRole("img").count()).toBe(
        2,
      );
      await expect.poll(() => page.locator(".graph-drawing").getAttribute("data-pictures")).toBe("2");
      // From one node to the next, to an address whose key is a URL, and further away.
      await page.getByRole("region", { name: "Articles" }).getByRole("link", {
        name: "An evening in the park",
      }).click();
      await page.getByRole("heading", { level: 2, name: "An evening in the park" }).waitFor();
      await page.getByRole("region", { name: "Posts" }).getByRole("link", { name: /^Concert tonight/ })
        .waitFor();
      await page.getByText("2 edges away").click();
      await page.getByRole("region", { name: "Channels" }).getByRole("link", { name: "telegram:city_events" })
        .waitFor();
      await page.reload();
      await page.getByRole("heading", { level: 2, name: "An evening in the park" }).waitFor();
      // By its id, from any page.
      await find(post.key, /^Post/);
      await page.getByRole("heading", { level: 2, name: /^Concert tonight/ }).waitFor();
      expect(await accessibilityProblems(page, "light")).toEqual([]);
    } finally {
      await database.end();
    }
  });

  test("jobs show what waits and how far batches are, what is said only where it may be kept, and what was not delivered", async () => {
    const database = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
    const batch = crypto.randomUUID();
    const later = new Date(Date.now() + 3_600_000).toISOString();
    const jobs = [
      {
        request_id: "tomorrow's",
        batch_id: batch,
        place: 0,
        body: { path: "/", body: { prompt: "A secret" } },
      },
      { request_id: "other", body: { path: "/", body: {} } },
    ].map((job) => ({ kind: "llm", models: ["gemma-4-31b-it"], run_at: later, ...job }));
    try {
      await database`select public.eve_jobs_submit(${database.json(jobs)})`;
      await database`
        insert into eve.batches (
          id, endpoint, input_file_id, job_id, state, total, added, open, completed, failed, created_at, expires_at
        )
        values (
          ${batch}, '/v1/chat/completions', ${batch}, ${batch}, 'in_progress', 4, 4, 1, 2, 1, now(), now() + interval '1 day'
        )`;
      await open("Jobs");
      const rows = page.getByRole("table", { name: "Jobs" }).getByRole("row");
      await rows.filter({ hasText: "other" }).waitFor();
      await page.getByRole("button", { name: "Show job tomorrow's" }).click();
      const one = page.getByRole("dialog", { name: "Job" });
      await one.getByText("is shown only where its consumer allows prompts to be kept").waitFor();
      expect(await one.getByText("A secret").count()).toBe(0);
      await database`update eve.consumers set capture = true where kind = 'project'`;
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Show job tomorrow's" }).click();
      await one.getByText("A secret").waitFor();
      await page.keyboard.press("Escape");

      // By its id, from another page.
      await open("Overview");
      const [job] = await database`select id from eve.jobs where request_id = 'tomorrow''s'`;
      await find(job!.id, /^Job · tomorrow's/);
      await one.getByText("A secret").waitFor();
      await page.keyboard.press("Escape");
      await rows.filter({ hasText: "other" }).waitFor();
      await page.getByText("Batches", { exact: true }).click();
      await page.getByText("3 of 4, 1 failed").waitFor();
      await page.getByRole("button", { name: batch.slice(0, 8) }).click();
      await rows.filter({ hasText: "tomorrow's" }).waitFor();
      expect(await rows.filter({ hasText: "other" }).count()).toBe(0);
      await page.getByRole("button", { name: "Cancel job tomorrow's" }).click();
      await rows.filter({ hasText: "cancelled" }).waitFor();
      expect([...await database`select state from eve.jobs where batch_id = ${batch}`]).toEqual([
        { state: "cancelled" },
      ]);

      const url = "http://127.0.0.1:9/hook";
      expect((await stack.invoke("admin/webhooks/add", { url })).status).toBe(200);
      await database`update eve.event_consumers set retry_s = '{}'`;
      await page.getByText("Webhooks", { exact: true }).click();
      await page.getByRole("button", { name: `Test ${url}` }).click();
      await page.getByText("A test event is on its way").waitFor();
      await (await stack.invoke("maintenance/events", {})).body?.cancel();
      await page.getByText("Dead letters", { exact: true }).click();
      await page.getByRole("button", { name: /^Show dead letter/ }).click();
      await page.getByRole("dialog", { name: "Dead letter" }).getByText("eve.webhook.test.v1").waitFor();
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: /^Drop dead letter/ }).click();
      await page.getByText("Every event has been delivered").waitFor();
      await page.getByText("Webhooks", { exact: true }).click();
      await page.getByRole("button", { name: `Deliveries to ${url}` }).click();
      const log = page.getByRole("dialog", { name: "Deliveries" });
      await log.getByText("dropped").waitFor();
      await log.getByRole("button", { name: /^Send delivery/ }).click();
      await page.getByText("It is sent again").waitFor();
    } finally {
      await database`update eve.consumers set capture = false where kind = 'project'`;
      await database`delete from eve.webhooks`;
      await database`delete from eve.batches`;
      await database`delete from eve.jobs`;
      await database.end();
    }
  });

  test("chats show whose they are and what they cost, and what is said only where the owner says so", async () => {
    const database = postgres(stack.databaseUrl, { max: 1 });
    const send = async (path: string, body: BodyInit, type = "application/json") => {
      const answer = await fetch(`${stack.url}/functions/v1/api/v1/${path}`, {
        method: "POST",
        headers: { "apikey": stack.keys.secret, "content-type": type },
        body,
      });
      expect(answer.ok).toBe(true);
      return await answer.json();
    };
    try {
      const chat = await send("chats", JSON.stringify({ title: "Несущие стены", user_id: "u-17" }));
      const answer = await send(
        `chats/${chat.id}/answer`,
        JSON.stringify({ model: "gemma-4-31b-it", prompt: "Где стена второго этажа?" }),
      );
      const dot = Uint8Array.from(
        atob(
          "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
        ),
        (char) => char.charCodeAt(0),
      );
      const { sha256 } = await send("media", dot, "image/png");
      await send(
        `messages/${answer.chat.question_id}/images`,
        JSON.stringify({ sha256, image_name: "view.png", description: "Оси 3 и 4" }),
      );
      await open("Chats");
      await page.getByLabel("User", { exact: true }).fill("u-17");
      await page.getByRole("row", { name: new RegExp(`${chat.id} u-17 project key 2`) }).waitFor();
      await page.getByText("What is said in chats is not shown").waitFor();
      await page.getByRole("button", { name: `Open ${chat.id}` }).click();
      const conversation = page.getByRole("dialog", { name: "Conversation" });
      await conversation.getByText(/^Calls: 1\. Tokens: [1-9]/).waitFor();
      await conversation.getByText("Picture", { exact: true }).waitFor();
      expect(await page.content()).not.toMatch(/стен|view\.png|Оси/);
      await page.keyboard.press("Escape");

      await database`update eve.settings set value = 1 where name = 'chats_text_for_administrators'`;
      await page.reload();
      await page.getByLabel("Words in messages").fill("этажи");
      await page.getByRole("button", { name: "Open Несущие стены" }).click();
      await conversation.getByText("Где стена второго этажа?", { exact: true }).waitFor();
      await conversation.getByRole("img", { name: "Оси 3 и 4" }).waitFor();
      expect(await accessibilityProblems(page, "light")).toEqual([]);
      await conversation.getByRole("link", { name: /^Call \d+/ }).first().click();
      await page.getByRole("dialog", { name: /^Request/ }).getByText("gemma-4-31b-it").first().waitFor();
      await page.keyboard.press("Escape");
      await find(chat.id, /^Chat/);
      await conversation.getByText("Где стена второго этажа?", { exact: true }).waitFor();
    } finally {
      await database`update eve.settings set value = 0 where name = 'chats_text_for_administrators'`;
      await database.end();
    }
  });

  test("the playground asks three at once with parameters, a schema and a picture, keeps all of it on leaving, and leads to the request", async () => {
    const database = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
    try {
      await database`update eve.consumers set capture = true where kind = 'project'`;
      await open("Playground");
      await page.getByText("three", { exact: true }).click();
      const targets = ["POEM", "gemma-4-26b-a4b-it", "gemma-4-31b-it"];
      for (const [place, name] of targets.entries()) {
        await page.getByRole("combobox", { name: `Model or stage ${place + 1}` }).click();
        await page.getByRole("option", { name, exact: true }).click();
      }
      const prompt = "Say **hello** <img src=x onerror=alert(1)> ![seen](http://127.0.0.1:9/seen.png)";
      await page.getByLabel("Prompt").fill(prompt);
      await page.getByText("Parameters", { exact: true }).click();
      await page.getByLabel("Temperature").fill("0.5");
      await page.getByLabel("JSON schema of the answer").fill('{"type": ');
      await page.getByText(/^This is not JSON/).waitFor();
      await page.getByLabel("JSON schema of the answer").fill("");
      await page.locator("input[type=file]").setInputFiles({
        name: "dot.png",
        mimeType: "image/png",
        buffer: Buffer.from(pngOf(scene(3, 40, 40))),
      });
      await page.getByLabel("Prompt").press("Control+Enter");
      // Another page meanwhile: the answers are there when one comes back.
      await open("Quota");
      await open("Playground");
      await expect.poll(() => page.getByText("done", { exact: true }).count()).toBe(3);
      for (const answer of await page.locator(".answer").all()) {
        expect(await answer.textContent()).not.toBe("");
      }
      expect(await page.getByLabel("Prompt").inputValue()).toBe(prompt);
      await page.getByText("dot.png", { exact: true }).waitFor();
      expect(await accessibilityProblems(page, "light")).toEqual([]);

      // The program asks the same; it is run as it stands.
      await page.getByText("As a program").click();
      for (const [language, command] of [["curl", "sh"], ["Python", "python3"]] as const) {
        await page.getByText(language, { exact: true }).click();
        const program = (await page.getByTestId("snippet").textContent())!;
        expect(program).toContain("temperature");
        const { success, stdout, stderr } = await new Deno.Command(command, {
          args: ["-c", program],
          env: { EVE_SECRET: stack.keys.secret },
        }).output();
        expect(success, new TextDecoder().decode(stderr)).toBe(true);
        expect(new TextDecoder().decode(stdout).trim(), language).not.toBe("");
      }
      await page.getByRole("link", { name: "Its request" }).last().click();
      await page.getByRole("button", { name: /^Open request/ }).click();
      const detail = page.getByRole("dialog", { name: /^Request/ });
      // What was said is read as Markdown; HTML is text, and nothing is loaded from anywhere.
      await detail.getByRole("strong").filter({ hasText: "hello" }).first().waitFor();
      expect(await detail.textContent()).toContain("onerror=alert(1)");
      expect(await detail.locator(".markdown img").count()).toBe(0);
      await page.keyboard.press("Escape");
      await page.getByLabel("Request id").fill("");
    } finally {
      await database`update eve.consumers set capture = false where kind = 'project'`;
      await database.end();
    }
  });

  test("a captured call is asked once more whole, in the playground and as a command, and a call is stopped", async () => {
    const database = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
    const model = "gemini-2.5-flash";
    const control = (path: string, init?: RequestInit) =>
      fetch(`${stack.emulatorUrl}/__control/${path}`, init).then((answer) => answer.json());
    /** What Google was asked last. */
    const asked = async () => {
      const seen: { method: string | null; body: string }[] = await control("requests?last=20");
      return JSON.parse(seen.findLast(({ method }) => /GenerateContent$/i.test(method ?? ""))!.body);
    };
    const openRequest = async (id: string) => {
      await open("Requests");
      await page.getByLabel("Request id").fill(id);
      await page.getByRole("button", { name: `Open request ${id}`, exact: true }).click();
      return page.getByRole("dialog", { name: /^Request/ });
    };
    try {
      await database`update eve.consumers set capture = true where kind = 'project'`;
      const call = {
        model,
        contents: [
          { role: "user", parts: [{ text: "What is one?" }] },
          { role: "model", parts: [{ text: "A **number**." }] },
          {
            role: "user",
            parts: [
              { text: "And this?" },
              { inlineData: { mimeType: "image/png", data: toBase64(pngOf(scene(5, 40, 40))) } },
            ],
          },
        ],
        system: "Be brief.",
        response_schema: { type: "object", properties: { a: { type: "string" } }, required: ["a"] },
        generation: { temperature: 0.5, top_k: 7, thinking_budget: 256 },
        safety_settings: [{ category: "HARM_CATEGORY_HARASSMENT", threshold: "BLOCK_NONE" }],
        request_id: "to-be-asked-again",
      };
      const answer = await stack.invoke("llm-invoke", call);
      expect(answer.status, await answer.text()).toBe(200);
      const first = await asked();
      expect(Object.keys(first)).toEqual(
        expect.arrayContaining(["contents", "systemInstruction", "generationConfig", "safetySettings"]),
      );

      let detail = await openRequest(call.request_id);
      await detail.getByText("And this?").first().waitFor();
      await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
      await detail.getByRole("button", { name: "Copy as curl" }).click();
      await detail.getByRole("button", { name: "Copied" }).waitFor();
      const command = await page.evaluate("navigator.clipboard.readText()") as string;
      const { success, stderr } = await new Deno.Command("sh", {
        args: ["-c", command],
        env: { EVE_SECRET: stack.keys.secret },
      }).output();
      expect(success, new TextDecoder().decode(stderr)).toBe(true);
      expect(await asked()).toEqual(first);

      await detail.getByRole("button", { name: "Run again in Playground" }).click();
      await page.getByRole("region", { name: "What was said before" }).getByRole("strong").filter({
        hasText: "number",
      }).waitFor();
      expect(await page.getByLabel("Prompt").inputValue()).toBe("And this?");
      await page.getByText("1.png", { exact: true }).waitFor();
      await page.getByText("Parameters", { exact: true }).click();
      await expect.poll(() => page.getByLabel(/^Tokens for thinking/).inputValue()).toBe("256");
      expect(await accessibilityProblems(page, "light")).toEqual([]);
      await page.getByRole("button", { name: "Ask", exact: true }).click();
      await page.getByText("done", { exact: true }).waitFor();
      expect(await asked()).toEqual(first);

      // Stopped: the call is over at Google's and in the list.
      await control("faults", {
        method: "POST",
        body: JSON.stringify([{ kind: "hang", match: { model }, times: null }]),
      });
      await page.getByLabel("Prompt").fill("And that?");
      await page.getByRole("button", { name: "Ask", exact: true }).click();
      await expect.poll(async () => JSON.stringify(await asked())).toContain("And that?");
      await page.getByRole("button", { name: "Stop" }).click();
      await page.getByText("Stopped.").waitFor();
      await expect.poll(async () =>
        (await database`select state from eve.requests where model = ${model} order by received_at desc limit 1`)
          .map(({ state }) => state)
      ).toEqual(["cancelled"]);

      await database`update eve.consumers set capture = false where kind = 'project'`;
      await control("faults", { method: "DELETE" });
      const plain = { model: "stage:POEM", prompt: "Hello", request_id: "not-captured" };
      await (await stack.invoke("llm-invoke", plain)).body?.cancel();
      detail = await openRequest(plain.request_id);
      await detail.getByText(/^What was asked is not kept/).waitFor();
      await detail.getByRole("button", { name: "Run again in Playground" }).click();
      await page.getByRole("heading", { level: 1, name: "Playground" }).waitFor();
      // A stage stays a stage.
      await expect.poll(() => page.getByRole("combobox", { name: "Model or stage" }).inputValue()).toBe(
        "POEM",
      );
      expect(await page.getByLabel("Prompt").inputValue()).toBe("");
      await open("Requests");
      await page.getByLabel("Request id").fill("");
    } finally {
      await control("faults", { method: "DELETE" });
      await database`update eve.consumers set capture = false where kind = 'project'`;
      await database.end();
    }
  });

  test("the pages are in Russian too", async () => {
    await open("Alerts");
    await page.getByRole("heading", { level: 1, name: "Alerts" }).waitFor();
    await page.getByText("RU", { exact: true }).click();
    await page.getByRole("heading", { level: 1, name: "Тревоги" }).waitFor();
    expect(await page.locator("html").getAttribute("lang")).toBe("ru");
    // What the gateway says of an error is English: it is told by its code.
    await page.route(
      "**/functions/v1/admin/alerts?*",
      (route) =>
        route.fulfill({
          status: 403,
          json: { error: { code: "credential_insufficient", message: "English" } },
        }),
    );
    await page.getByText("История", { exact: true }).click();
    await page.getByText("У этой учётной записи нет таких прав.").waitFor();
    await page.unrouteAll();
    await page.getByText("EN", { exact: true }).click();
  });

  test("everything is reached with the keyboard alone", async () => {
    await open("Providers");
    await page.reload();
    await stage("POEM").waitFor();
    await page.keyboard.press("Tab");
    expect(await page.evaluate("document.activeElement.className")).toContain("skip-link");
    await page.keyboard.press("Enter");
    expect(await page.evaluate("document.activeElement.id")).toBe("content");
    // From the first control of the page to a saved stage without a pointer.
    const focused = stage("POEM").locator("button[type=submit]:focus");
    for (let presses = 0; presses < 12 && await focused.count() === 0; presses++) {
      await page.keyboard.press("Tab");
    }
    await page.keyboard.press("Enter");
    await page.getByText("POEM is saved.").first().waitFor();
  });

  // At 1440 px axe-core looks in the flows.
  test.each([[390, "light"], [768, "dark"]] as const)(
    "at %i px every page fits the screen's width, its heading is one line, and axe-core finds nothing serious, %s",
    async (width, scheme) => {
      await page.setViewportSize({ width, height: 800 });
      await page.emulateMedia({ colorScheme: scheme });
      for (const name of PAGES) {
        const menu = page.getByRole("button", { name: "Menu" });
        if (await menu.isVisible()) await menu.click();
        // The browser asks for no motion: the menu is there at once, and does not slide away from a click.
        const slides = "getComputedStyle(document.querySelector('nav')).transitionDuration";
        expect(await page.evaluate(slides), name).toBe("0s");
        await open(name);
        const heading = page.getByRole("heading", { level: 1, name });
        await heading.waitFor();
        expect(await page.evaluate("document.documentElement.scrollWidth"), name).toBeLessThanOrEqual(width);
        expect((await heading.boundingBox())!.height, name).toBeLessThan(50);
        expect((await page.getByRole("banner").boundingBox())!.height, name).toBe(56);
        expect(await accessibilityProblems(page, scheme), name).toEqual([]);
        if (width > 390) continue;
        // Tables are cards here: nothing is beyond the edge, and each line has its column's name.
        const lists = await page.evaluate(`[...document.querySelectorAll(".list")].map((list) => [
          list.querySelector(".mantine-ScrollArea-viewport").scrollWidth <= list.clientWidth,
          [...list.querySelectorAll("tbody td")].every((cell) => getComputedStyle(cell, "::before").content !== "none"),
        ])`) as boolean[][];
        expect(lists.flat().every(Boolean), name).toBe(true);
      }
      await page.emulateMedia({ colorScheme: "light" });
      await page.setViewportSize({ width: 1280, height: 900 });
    },
  );

  test("at midnight in Los Angeles the day is over on every page", async () => {
    const database = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
    const headings = async () => {
      await open("Usage");
      await page.getByText("Today (Pacific)").click();
      await page.getByText(/today is \d{4}-\d\d-\d\d/).or(page.getByText("No usage in this time")).first()
        .waitFor();
      const usage = await page.getByRole("main").textContent();
      await open("Quota");
      const quota = await page.getByText(/Google's day/).first().textContent();
      return { usage, day: /day (\S+),/.exec(quota!)![1]! };
    };
    try {
      const [{ midnight }] = await database`
        select eve.next_pacific_midnight(eve.clock_ms()) - eve.clock_ms() as midnight` as unknown as [
        { midnight: string },
      ];
      const before = await headings();
      expect(before.usage).toContain(`today is ${before.day}`);
      // Half a minute after it.
      await moveClock(database, Number(midnight) + 30_000);
      await page.reload();
      expect((await headings()).day > before.day).toBe(true);
      await open("Usage");
      await page.getByText("Today (Pacific)").click();
      // What was shown before stays until the new figures are here.
      await page.getByText("No usage in this time").waitFor();
      await open("Consumers");
      const row = page.getByRole("row").filter({ hasText: "figures" });
      await row.waitFor();
      expect((await row.getByRole("cell").allTextContents()).slice(5, 7)).toEqual(["0", "0"]);
    } finally {
      await moveClock(database, 0);
      await database.end();
    }
  });

  test("of a long list all is told, and what is near the screen is drawn", async () => {
    const database = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
    try {
      await database`
        insert into eve.requests (
          request_no, consumer_id, request_id, class, endpoint, model, state, attempts, wait_ms, received_at, finished_at
        )
        select 10000000 + n, c.id, 'many-' || n, 'interactive', 'native', 'gemma-4-31b-it', 'succeeded', 1, 0, now(),
          newest.at + n * interval '1 millisecond'
        from generate_series(1, 300) n
        -- Other tests have moved the clock.
        cross join (select greatest(now(), max(r.finished_at)) as at from eve.requests r) newest
        join eve.consumers c on c.kind = 'project'`;
      await open("Requests");
      // The test before has left one request's id in the filter.
      await page.getByLabel("Request id").fill("");
      const table = page.getByRole("table", { name: "Requests" });
      const rows = table.getByRole("row");
      await rows.filter({ hasText: "many-300" }).waitFor();
      for (let pages = 1; pages < 5; pages++) {
        const answered = page.waitForResponse(/admin\/requests\?.*before=/);
        await page.getByRole("button", { name: "Older ones" }).click();
        await answered;
      }
      await expect.poll(() => table.getAttribute("aria-rowcount")).toBe("251");
      expect(await rows.count()).toBeLessThan(120);
      await page.evaluate("scrollTo(0, document.body.scrollHeight)");
      const last = rows.filter({ hasText: "many-51" });
      await last.waitFor();
      expect(await last.getAttribute("aria-rowindex")).toBe("251");
    } finally {
      await database.end();
    }
  });

  test("what a screen reader is told of each dialog and drawer, in which axe-core finds nothing serious, light and dark", async () => {
    const database = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
    const parts: string[] = [];
    try {
      await fillForDialogs({ stack, sql: database });
      await page.reload();
      for (const { on, name, open: press } of DIALOGS) {
        await open(on);
        await page.getByRole("heading", { level: 1, name: on }).waitFor();
        await press(page);
        await page.getByRole("dialog").waitFor();
        parts.push(`# ${on}: ${name}`, await partsAsTheyStay("dialog"), "");
        for (const scheme of ["dark", "light"] as const) {
          await page.emulateMedia({ colorScheme: scheme });
          expect(await accessibilityProblems(page, scheme, '[role="dialog"]'), `${name}, ${scheme}`).toEqual(
            [],
          );
        }
        await page.keyboard.press("Escape");
        await page.getByRole("dialog").waitFor({ state: "detached" });
      }
    } finally {
      await page.emulateMedia({ colorScheme: "light" });
      await database.end();
    }
    await expect(parts.join("\n")).toMatchFileSnapshot("./screen_reader_dialogs.txt");
  });

  test("nothing went wrong inside the page meanwhile", () => {
    expect(problems).toEqual([]);
  });
});
