/** What an owner does with the console, page by page, written once for every width, colour scheme and language. */
import type postgres from "postgres";
import { expect } from "vitest";
import type { TestStack } from "../harness/stack.ts";
import type { Screen } from "./screen.ts";

export interface At {
  screen: Screen;
  stack: TestStack;
  sql: postgres.Sql;
  /** Of this run, for names that no other has. */
  no: number;
}

const MODEL = "gemma-4-31b-it";
/** So that what a flow changes is not what others call. */
const OTHER_MODEL = "gemini-3.5-flash";

async function call({ stack }: At, body: Record<string, unknown> = {}): Promise<void> {
  const answer = await stack.invoke("llm-invoke", { model: MODEL, prompt: "Hello", ...body });
  await answer.body?.cancel();
  expect(answer.status).toBe(200);
}

async function ask({ stack }: At, path: string, body: unknown): Promise<void> {
  const answer = await stack.invoke(path, body);
  await answer.body?.cancel();
  expect(answer.status).toBe(200);
}

export const FLOWS: Record<string, (at: At) => Promise<void>> = {
  async "signing out and in"({ screen, stack }) {
    const { page } = screen;
    const { email, password } = stack.console!.administrator;
    await screen.button("account").click();
    await page.getByRole("menuitem", { name: screen.t("sign_out") }).click();
    await screen.field("sign_in.email").fill(email);
    await page.locator("input[type=password]").fill("wrong");
    await screen.button("sign_in.submit").click();
    await page.getByText(screen.t("sign_in.refused")).waitFor();
    await screen.check();
    await page.locator("input[type=password]").fill(password);
    await screen.button("sign_in.submit").click();
    await page.getByRole("banner").waitFor();
    await page.getByRole("heading", { level: 1 }).waitFor();
  },

  async "overview, and an id found from it"(at) {
    const { screen, no } = at;
    const { page } = screen;
    await call(at, { request_id: `found-${no}` });
    await screen.open("overview");
    await page.getByRole("region", { name: screen.t("overview.hour"), exact: true }).waitFor();
    await page.getByRole("region", { name: screen.t("overview.left") }).getByRole("row").nth(1).waitFor();
    await screen.check();
    await page.keyboard.press("Control+K");
    const finding = screen.dialog(screen.t("find.title"));
    await screen.field("find.id", finding).fill(`found-${no}`);
    await finding.getByRole("link", { name: `found-${no}` }).click();
    const detail = screen.dialog(screen.like("requests.one"));
    await detail.getByText(screen.like("requests.attempt", { no: 1, model: MODEL })).waitFor();
    await screen.check();
    await screen.button("close", detail).click();
    await detail.waitFor({ state: "detached" });
  },

  async "a stage's provider is saved, and its history told"({ screen }) {
    const { page } = screen;
    await screen.open("providers");
    const stage = page.getByRole("region", { name: "POEM", exact: true });
    await stage.locator("input[type=password]").fill("demo-key-c");
    await screen.button("save", stage).click();
    await stage.getByText(screen.t("providers.key_saved", { last: "ey-c" })).waitFor();
    await stage.getByText(screen.t("providers.status.active"), { exact: true }).waitFor();
    await screen.button("providers.history", stage).click();
    const history = screen.dialog(screen.t("providers.history_of", { stage: "POEM" }));
    await history.getByText("admin@example.com").first().waitFor();
    await screen.check();
    await screen.button("close", history).click();
    await history.waitFor({ state: "detached" });
  },

  async "a key is tested, added and paused"({ screen, sql, no }) {
    const { page } = screen;
    const [known] = await sql`
      select env_var_name from public.google_ai_api_keys where is_active and env_var_name not like 'stage:%' order by priority limit 1`;
    await screen.open("keys");
    await screen.button("keys.add").click();
    const adding = screen.dialog(screen.t("keys.add"));
    await screen.field("keys.alias", adding).fill(`key-${no}`);
    await screen.field("keys.secret", adding).fill(known!.env_var_name);
    await screen.button("keys.test", adding).click();
    await adding.getByText(screen.like("keys.tested.active")).waitFor();
    await screen.field("keys.quota_project", adding).fill(`project-${no}`);
    await screen.check();
    await screen.button("keys.add", adding).click();
    await adding.waitFor({ state: "detached" });
    await page.getByRole("button", { name: `${screen.t("keys.pause")}: key-${no}` }).click();
    await page.getByRole("button", { name: `${screen.t("keys.resume")}: key-${no}` }).waitFor();
    const [added] =
      await sql`delete from public.google_ai_api_keys where key_alias = ${`key-${no}`} returning is_active`;
    expect(added!.is_active).toBe(false);
  },

  async "a model's limits are changed, and a table of limits is pasted"({ screen, sql, no }) {
    const { page } = screen;
    const limits = async () =>
      (await sql`select rpm, tpm, rpd, batch_floor, interactive_floor, interactive_reserve_day from public.google_ai_model_limits where model = ${OTHER_MODEL}`)[
        0
      ];
    const before = await limits();
    try {
      await screen.open("keys");
      await page.getByRole("button", { name: `${screen.t("keys.change")}: ${OTHER_MODEL}`, exact: true })
        .click();
      const changing = screen.dialog(screen.t("keys.change_one", { name: OTHER_MODEL }));
      await screen.field("keys.rpm", changing).fill(String(1_000 + no));
      await screen.field("keys.batch_floor", changing).fill("7");
      await screen.field("keys.interactive_floor", changing).fill("3");
      await screen.check();
      await screen.button("save", changing).click();
      await changing.waitFor({ state: "detached" });
      expect(await limits()).toEqual({
        ...before,
        rpm: 1_000 + no,
        batch_floor: 0.07,
        interactive_floor: 3,
      });

      await screen.button("limits_import.open").click();
      const importing = screen.dialog(screen.t("limits_import.open"));
      await screen.field("limits_import.table", importing)
        .fill(`Model,RPM,TPM,RPD\nGemini 3.5 Flash,${2_000 + no},250K,20`);
      await screen.button("limits_import.compare", importing).click();
      await importing.getByRole("row").filter({ hasText: OTHER_MODEL }).waitFor();
      await screen.check();
      await importing.getByRole("button", { name: screen.t("limits_import.save", { count: 1 }) }).click();
      await importing.waitFor({ state: "detached" });
      expect((await limits())!.rpm).toBe(2_000 + no);
    } finally {
      await sql`update public.google_ai_model_limits set ${
        sql(before as Record<string, number>)
      } where model = ${OTHER_MODEL}`;
    }
  },

  async "a model is added, and a key's failed calls are looked at"({ screen, stack, sql, no }) {
    const { page } = screen;
    const model = `new-model-${no}`;
    await screen.open("keys");
    await screen.button("keys.add_model").click();
    const adding = screen.dialog(screen.t("keys.add_model"));
    await screen.field("keys.model_name", adding).fill(OTHER_MODEL);
    await adding.getByText(screen.t("keys.model_known")).waitFor();
    await screen.field("keys.model_name", adding).fill(model);
    await screen.check();
    await screen.button("keys.add_model", adding).click();
    // What it may is asked for next.
    const changing = screen.dialog(screen.t("keys.change_one", { name: model }));
    await screen.field("keys.rpm", changing).fill("5");
    await screen.button("save", changing).click();
    await changing.waitFor({ state: "detached" });
    const [added] = await sql`delete from public.google_ai_model_limits where model = ${model} returning rpm`;
    expect(added!.rpm).toBe(5);

    const [key] =
      await sql`select key_alias from public.google_ai_api_keys where is_active order by priority, key_alias limit 1`;
    await page.getByRole("link", { name: `${screen.t("keys.failures")}: ${key!.key_alias}`, exact: true })
      .click();
    await page.getByRole("heading", { level: 1, name: screen.t("requests.title") }).waitFor();
    expect(await page.getByLabel(screen.t("requests.key"), { exact: true }).inputValue()).toBe(
      key!.key_alias,
    );
    await expect.poll(() => page.url()).toContain("outcome=failed");
    await screen.open("overview");
    // The address keeps the filter for the next visit of the page.
    await page.goto(stack.console!.url);
    await page.getByRole("banner").waitFor();
  },

  async "a lane's limit is changed where it is seen"(at) {
    const { screen, sql, no } = at;
    const { page } = screen;
    try {
      // A lane that nobody uses is folded away.
      await call(at);
      await screen.open("quota");
      const lane = page.getByRole("region", { name: new RegExp(`^${MODEL}`) }).first();
      await lane.getByRole("button", { name: screen.like("quota.change") }).click();
      const limits = screen.dialog(screen.like("quota.limits_of", { model: MODEL }));
      await screen.field("keys.rpm", limits).fill(String(1_000 + no));
      await screen.check();
      await screen.button("save", limits).click();
      await limits.waitFor({ state: "detached" });
      await lane.getByText(screen.like("quota.used_of", { used: "", limit: screen.number(1_000 + no) }))
        .waitFor();
      await screen.check();
    } finally {
      await sql`delete from eve.quota_overrides`;
    }
  },

  async "a call is found, opened, saved as CSV, and the next ones are told as they end"(at) {
    const { screen, no } = at;
    const { page } = screen;
    await call(at, { request_id: `looked-for-${no}` });
    await screen.open("requests");
    await screen.field("requests.request_id").fill(`looked-for-${no}`);
    const opening = page.getByRole("button", {
      name: screen.t("requests.open", { id: `looked-for-${no}` }),
    });
    await opening.waitFor();
    await expect.poll(() => page.url()).toContain(`looked-for-${no}`);
    await screen.check();
    const saved = page.waitForEvent("download");
    await screen.button("requests.export.csv").click();
    const lines = (await Deno.readTextFile(await (await saved).path())).trim().split("\r\n");
    expect(lines).toHaveLength(2);
    await opening.click();
    const detail = screen.dialog(screen.like("requests.one"));
    await detail.getByText(screen.t("requests.not_captured")).waitFor();
    await detail.getByText(screen.t("requests.again_not_kept")).waitFor();
    await screen.check();
    await screen.button("close", detail).click();
    await screen.field("requests.request_id").fill("");
    await page.getByRole("switch", { name: screen.t("requests.live") }).check();
    await page.waitForResponse(/requests\/tail\?after=/);
    await call(at, { request_id: `told-${no}` });
    await page.getByRole("button", { name: screen.t("requests.open", { id: `told-${no}` }) }).waitFor();
    await page.getByRole("switch", { name: screen.t("requests.live") }).uncheck();
  },

  async "why a call was refused is found by its id, and by a click on its row"(at) {
    const { screen, stack, sql, no } = at;
    const { page } = screen;
    const name = `refused-${no}`;
    const added = { name, kind: "service", requests_per_day: 1 };
    const { secret } = await (await stack.invoke("admin/consumers/add", added)).json();
    const statuses = [];
    for (const id of ["first", "second/100%"]) {
      const answer = await fetch(`${stack.url}/functions/v1/llm-invoke`, {
        method: "POST",
        headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
        body: JSON.stringify({ model: MODEL, prompt: "Hello", request_id: `${id}-${no}`, max_wait_ms: 0 }),
      });
      await answer.body?.cancel();
      statuses.push(answer.status);
    }
    expect(statuses).toEqual([200, 429]);
    const refused = `second/100%-${no}`;
    const showsWhy = async () => {
      const detail = screen.dialog(screen.t("requests.one_refused", { id: refused }));
      await detail.getByText(
        screen.t("requests.refused_by", { limit: screen.t("requests.limits.consumer_requests") }),
      ).waitFor();
      await detail.getByText(screen.like("requests.fits")).waitFor();
      await detail.getByText(
        screen.appearance.language === "ru"
          ? screen.t("codes.budget_exhausted" as "codes.not_found")
          : "The budget of this consumer or token is spent.",
      ).waitFor();
      await screen.check();
      await screen.button("close", detail).click();
      await detail.waitFor({ state: "detached" });
    };
    await screen.open("requests");
    await screen.field("requests.request_id").fill(refused);
    await page.getByRole("row").filter({ hasText: refused }).getByText(name, { exact: true }).click();
    await showsWhy();
    // The filter is as it was.
    expect(await screen.field("requests.request_id").inputValue()).toBe(refused);
    await screen.field("requests.request_id").fill("");
    await screen.open("overview");
    await page.keyboard.press("Control+K");
    const finding = screen.dialog(screen.t("find.title"));
    await screen.field("find.id", finding).fill(refused);
    await finding.getByRole("link", { name: refused }).click();
    await showsWhy();
    // What was let in after all is one thing, not two.
    await page.keyboard.press("Control+K");
    await screen.field("find.id", finding).fill(`first-${no}`);
    await finding.getByRole("link", { name: `first-${no}` }).waitFor();
    expect(await finding.getByRole("link").count()).toBe(1);
    await page.keyboard.press("Escape");
    await finding.waitFor({ state: "detached" });
    await sql`delete from eve.consumers where name = ${name}`;
  },

  async "a consumer is added, given a token and a new secret, and removed"({ screen, sql, no }) {
    const { page } = screen;
    const name = `notebook-${no}`;
    await screen.open("consumers");
    await screen.button("consumers.add").click();
    const adding = screen.dialog(screen.t("consumers.add"));
    await screen.field("consumers.name", adding).fill(name);
    await adding.getByText(screen.t("consumers.kinds.notebook"), { exact: true }).click();
    await screen.check();
    await screen.button("consumers.add", adding).click();
    const box = screen.dialog(screen.t("consumers.secret_of", { name }));
    await box.getByText(screen.t("consumers.snippet")).click();
    const secret = (await box.getByTestId("secret").textContent())!;
    expect(await box.getByTestId("snippet").textContent()).toContain(secret);
    await screen.check();
    await screen.button("consumers.secret_kept", box).click();

    await screen.field("consumers.search").fill(name);
    await page.getByText(screen.t("consumers.total", { count: 1 }), { exact: true }).waitFor();
    await page.getByRole("button", { name: `${screen.t("consumers.snippet_open")}: ${name}` }).click();
    const program = screen.dialog(screen.t("consumers.snippet_of", { name }));
    expect(await program.getByTestId("snippet").textContent()).toContain("PUT_THE_SECRET_HERE");
    await screen.check();
    await screen.button("close", program).click();
    await page.getByRole("button", { name: screen.t("consumers.tokens_of", { name }) }).click();
    const tokens = screen.dialog(screen.t("consumers.live_tokens"));
    await screen.button("consumers.issue", tokens).click();
    await tokens.getByTestId("token").waitFor();
    await screen.button("consumers.revoke", tokens).click();
    await tokens.getByText(screen.t("consumers.no_tokens")).waitFor();
    await screen.button("close", tokens).click();

    await page.getByRole("button", { name: `${screen.t("consumers.rotate")}: ${name}` }).click();
    await screen.button("consumers.rotate_do", screen.dialog(screen.t("consumers.rotate"))).click();
    expect(await box.getByTestId("secret").textContent()).not.toBe(secret);
    await screen.button("consumers.secret_kept", box).click();
    await page.getByText(screen.like("consumers.two_secrets")).waitFor();

    await page.getByRole("button", { name: `${screen.t("consumers.disable")}: ${name}` }).click();
    await page.getByRole("button", { name: `${screen.t("consumers.enable")}: ${name}` }).waitFor();
    await page.getByRole("button", { name: `${screen.t("consumers.remove")}: ${name}` }).click();
    await screen.button("consumers.remove", screen.dialog(screen.t("consumers.remove"))).click();
    await page.getByText(screen.t("nothing_found")).waitFor();
    expect(await sql`select from eve.consumers where name = ${name}`).toHaveLength(0);
    await screen.field("consumers.search").fill("");
  },

  async "two edit a consumer: the second is shown both"(at) {
    const { screen, sql, no } = at;
    const { page } = screen;
    const name = `edited-${no}`;
    await ask(at, "admin/consumers/add", { name, kind: "service", rpm: 5 });
    await screen.open("consumers");
    await screen.field("consumers.search").fill(name);
    await page.getByRole("button", { name: `${screen.t("consumers.scope")}: ${name}` }).click();
    const scope = screen.dialog(screen.t("consumers.scope"));
    await screen.field("consumers.rpm", scope).fill("7");
    await ask(at, "admin/consumers/scope", { name, rpm: 9 });
    await screen.button("save", scope).click();
    const conflict = scope.getByRole("alert");
    await conflict.getByRole("row", { name: `${screen.t("consumers.rpm")} 7 9` }).waitFor();
    await screen.check();
    await conflict.getByRole("button", { name: screen.t("conflict.keep_mine") }).click();
    await screen.button("save", scope).click();
    await scope.waitFor({ state: "detached" });
    const [now] = await sql`select rpm from eve.consumers where name = ${name}`;
    expect(now!.rpm).toBe(7);
    await screen.field("consumers.search").fill("");
  },

  async "a tenant is added and changed"({ screen, no }) {
    const { page } = screen;
    const id = `tenant-${no}`;
    await screen.open("consumers");
    const tenants = page.getByRole("region", { name: screen.t("tenants.title"), exact: true });
    await screen.button("tenants.add", tenants).click();
    const adding = screen.dialog(screen.t("tenants.add"));
    await screen.field("tenants.id", adding).fill(id);
    await screen.field("tenants.name", adding).fill("Before");
    await screen.button("tenants.add", adding).click();
    await tenants.getByRole("button", { name: `${screen.t("tenants.change")}: ${id}`, exact: true }).click();
    const changing = screen.dialog(`${screen.t("tenants.change")}: ${id}`);
    await screen.field("tenants.name", changing).fill("After");
    await screen.check();
    await screen.button("save", changing).click();
    await tenants.getByRole("row").filter({ hasText: id }).getByText("After").waitFor();
  },

  async "a chat is opened"({ screen }) {
    const { page } = screen;
    await screen.open("chats");
    await screen.field("chats.user_id").fill("u-17");
    await page.getByText(screen.t("chats.no_text"), { exact: true }).waitFor();
    await page.getByRole("table").getByRole("button", { name: screen.like("chats.open") }).first().click();
    const chat = screen.dialog(screen.t("chats.one"));
    await chat.getByText(screen.like("chats.cost")).waitFor();
    await screen.check();
    await screen.button("close", chat).click();
    await chat.waitFor({ state: "detached" });
  },

  async "a job is looked at and cancelled, and the page's other parts are there"({ screen, sql, no }) {
    const { page } = screen;
    const request_id = `job-${no}`;
    const run_at = new Date(Date.now() + 3_600_000).toISOString();
    const job = { kind: "llm", models: [MODEL], run_at, request_id, body: { path: "/", body: {} } };
    await sql`select public.eve_jobs_submit(${sql.json([job])})`;
    await screen.open("jobs");
    await page.getByRole("button", { name: screen.t("jobs.open", { id: request_id }) }).click();
    const one = screen.dialog(screen.t("jobs.one"));
    await one.getByText(screen.t("jobs.not_said")).waitFor();
    await screen.check();
    await screen.button("close", one).click();
    await page.getByRole("button", { name: screen.t("jobs.cancel_one", { id: request_id }) }).click();
    await page.getByRole("row").filter({ hasText: request_id })
      .getByText(screen.t("jobs.states.cancelled"), { exact: true }).waitFor();
    for (
      const [part, empty] of [["batches", "no_batches"], ["webhooks", "no_webhooks"], [
        "dead_letters",
        "no_letters",
      ]]
    ) {
      await page.getByText(screen.t(`jobs.parts.${part}`), { exact: true }).click();
      await page.getByText(screen.t(`jobs.${empty}`)).waitFor();
    }
    await screen.check();
    await page.getByText(screen.t("jobs.parts.jobs"), { exact: true }).last().click();
  },

  async "a picture that could not be read is looked at once more"({ screen, sql }) {
    const { page } = screen;
    const status = async () => (await sql`select status from public.post_enrichment`)[0]!.status;
    await expect.poll(status).toBe("done");
    await sql`update public.post_enrichment set status = 'failed', reason = 'nobody came'`;
    await screen.open("vision");
    const failed = page.getByRole("article").filter({ hasText: "nobody came" });
    await failed.waitFor();
    await screen.check();
    await screen.button("vision.again", failed).click();
    await page.getByText(screen.t("vision.queued")).waitFor();
  },

  async "from a post to its picture and back in the graph"({ screen }) {
    const { page } = screen;
    await screen.open("graph");
    await page.getByRole("main").getByRole("link").first().click();
    await page.locator(".graph-drawing canvas").first().waitFor();
    await page.getByText(screen.t("graph.away", { count: 2 }), { exact: true }).click();
    await screen.check();
    await page.getByRole("region", { name: screen.t("graph.kinds.ImageContent") }).getByRole("link").first()
      .click();
    await page.getByRole("region", { name: screen.t("graph.kinds.Post") }).getByRole("link").first()
      .waitFor();
    await page.getByRole("link", { name: screen.t("graph.back") }).click();
    await page.getByRole("main").getByRole("combobox", { name: screen.t("graph.kind") }).waitFor();
  },

  async "usage is split and saved, and a price is set"({ screen, sql, no }) {
    const { page } = screen;
    await screen.open("usage");
    await page.getByText(screen.t("usage.spans.day"), { exact: true }).click();
    await page.getByText(screen.t("usage.split.model"), { exact: true }).click();
    await page.getByRole("rowheader", { name: MODEL, exact: true }).waitFor();
    await page.getByRole("rowheader", { name: "Σ" }).waitFor();
    await screen.check();
    const saved = page.waitForEvent("download");
    await screen.button("requests.export.json").click();
    const { rows, total } = JSON.parse(await Deno.readTextFile(await (await saved).path())) as {
      rows: { model: string; requests: number }[];
      total: { model: string; requests: number };
    };
    expect(rows.map(({ model }) => model)).toContain(MODEL);
    expect(total).toMatchObject({
      model: "Σ",
      requests: rows.reduce((sum, { requests }) => sum + requests, 0),
    });
    await screen.button("prices.title").click();
    const prices = screen.dialog(screen.t("prices.title"));
    await prices.getByRole("button", { name: `${screen.t("keys.change")}: ${MODEL}`, exact: true }).click();
    await screen.field("prices.input_usd", prices).fill(String(no + 1));
    await screen.check();
    await screen.button("save", prices).click();
    await expect.poll(async () =>
      Number((await sql`select input_usd from eve.model_prices where model = ${MODEL}`)[0]?.input_usd)
    ).toBe(no + 1);
    await screen.button("close", prices).click();
    await prices.waitFor({ state: "detached" });
  },

  async "what a clean-up would delete is shown, and then deleted"({ screen, stack, sql, no }) {
    const { page } = screen;
    const api = async (path: string, init: RequestInit = {}) => {
      const headers = { "apikey": stack.keys.secret, "content-type": "application/octet-stream" };
      const answer = await fetch(`${stack.url}/functions/v1/api/v1/${path}`, { ...init, headers });
      expect(answer.ok, path).toBe(true);
      return await answer.json();
    };
    await api("media?kind=crawl", { method: "POST", body: `page ${no} `.repeat(1_000) });
    const pages = async () =>
      Number((await sql`select count(*) from public.media_objects where kind = 'crawl'`)[0]!.count);
    const [{ limit_bytes }] = await sql`
      select limit_bytes from eve.media_limits where name = 'total'` as unknown as [{ limit_bytes: string }];
    try {
      await sql`update public.media_objects set last_seen_at = now() - interval '5 days' where kind = 'crawl'`;
      await screen.open("storage");
      const cleanUp = page.getByRole("region", { name: screen.t("storage.cleanup"), exact: true });
      await screen.field("storage.target", cleanUp).fill("1");
      await screen.button("storage.dry_run", cleanUp).click();
      await cleanUp.getByText(screen.t("storage.enough")).waitFor();
      await page.getByRole("region", { name: screen.t("storage.tenants") }).getByRole("row").nth(1).waitFor();
      await screen.check();

      // All of the room is to be free, and there is just so much: what can be fetched again goes.
      const { total } = await api("storage/stats");
      await sql`
        update eve.media_limits set limit_bytes = ${
        1_000_000_000 + total.used_bytes - 1
      } where name = 'total'`;
      await screen.button("storage.dry_run", cleanUp).click();
      await cleanUp.getByText(screen.like("storage.would", { objects: 1 })).waitFor();
      expect(await pages()).toBe(1);
      await screen.check();
      await screen.button("storage.delete", cleanUp).click();
      await cleanUp.getByText(screen.like("storage.deleted", { objects: 1 })).waitFor();
      expect(await pages()).toBe(0);
    } finally {
      await sql`update eve.media_limits set limit_bytes = ${limit_bytes} where name = 'total'`;
    }
  },

  async "an alert is taken on and closed"({ screen, sql, no }) {
    const { page } = screen;
    await sql`select eve.open_alert('lane_exhausted', ${`lane-${no}`}, 'warning', 'made by a test')`;
    await screen.open("alerts");
    const alert = page.getByRole("article", { name: `lane_exhausted lane-${no}`, exact: true });
    await alert.getByRole("button", { name: screen.like("alerts.acknowledge") }).click();
    await alert.getByText(screen.like("alerts.acknowledged", { who: "admin@example.com" })).waitFor();
    await alert.getByText(screen.t("alerts.sent_to")).click();
    await alert.getByText(screen.t("alerts.sent_nobody")).waitFor();
    await screen.check();
    await alert.getByRole("button", { name: new RegExp(`^${screen.t("alerts.close")}: `) }).click();
    await alert.waitFor({ state: "detached" });
    await page.getByText(screen.t("alerts.closed"), { exact: true }).click();
    await alert.waitFor();
    await page.getByText(screen.t("alerts.open"), { exact: true }).click();
  },

  async "a model is asked in the playground, by the keyboard, and the call is there as a program"(
    { screen, no },
  ) {
    const { page } = screen;
    await screen.open("playground");
    const target = page.getByRole("combobox", { name: screen.t("playground.target"), exact: true });
    // An earlier run's choice is kept, and chosen once more it would be taken back.
    if (await target.inputValue() !== MODEL) {
      await target.click();
      await page.getByRole("option", { name: MODEL, exact: true }).click();
    }
    const prompt = screen.field("playground.prompt");
    await prompt.fill(`Question ${no}`);
    await prompt.press("Control+Enter");
    await page.getByText(screen.t("playground.state.done"), { exact: true }).waitFor();
    await page.getByText(screen.t("playground.snippet"), { exact: true }).click();
    expect(await page.getByTestId("snippet").textContent()).toContain(`Question ${no}`);
    await screen.check();
    await page.getByRole("link", { name: screen.t("playground.request") }).click();
    await page.getByRole("button", { name: screen.like("requests.open") }).first().waitFor();
    await screen.field("requests.request_id").fill("");
  },
};
