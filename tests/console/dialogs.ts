/** Every dialog, drawer and menu of the console, and how a person opens it: for what holds of all of them. */
import type postgres from "postgres";
import type { Page } from "playwright-core";
import type { TestStack } from "../harness/stack.ts";

export interface Place {
  page: Page;
  stack: TestStack;
  sql: postgres.Sql;
}

const NAME = "read-aloud";
const MODEL = "gemma-4-31b-it";
/** Of the pool, not a stage's. */
const KEY = /^Change: (?!gem)/;

type Open = (page: Page) => Promise<unknown>;

const press = (name: string | RegExp): Open => (page) =>
  page.getByRole("main").getByRole("button", { name, ...(typeof name === "string" && { exact: true }) })
    .first()
    .click();
const search: Open = (page) => page.getByLabel("Name or tenant").fill(NAME);
const after = (...steps: Open[]): Open => async (page) => {
  for (const step of steps) await step(page);
};

/** By page, and what opens it there. What is opened by Ctrl+K is opened on any. */
export const DIALOGS: readonly { on: string; name: string; open: Open }[] = [
  { on: "Overview", name: "an id is looked for", open: (page) => page.keyboard.press("Control+K") },
  { on: "Providers", name: "history of a stage", open: press("History") },
  { on: "Keys and models", name: "a key is added", open: press("Add key") },
  { on: "Keys and models", name: "a key is changed", open: press(KEY) },
  { on: "Keys and models", name: "a key is removed", open: press(/^Remove: /) },
  { on: "Keys and models", name: "a model is added", open: press("Add model") },
  { on: "Keys and models", name: "a model is changed", open: press(`Change: ${MODEL}`) },
  { on: "Keys and models", name: "limits are imported", open: press("Import limits") },
  { on: "Quota", name: "limits of a lane", open: press(/^Change limits/) },
  {
    on: "Requests",
    name: "one request",
    open: after((page) => page.getByLabel("Request id").fill(NAME), press(`Open request ${NAME}`)),
  },
  { on: "Consumers", name: "a consumer is added", open: press("Add consumer") },
  { on: "Consumers", name: "a consumer is changed", open: after(search, press(`Scope: ${NAME}`)) },
  { on: "Consumers", name: "a consumer's program", open: after(search, press(`Program: ${NAME}`)) },
  { on: "Consumers", name: "a consumer's tokens", open: after(search, press(`0: Tokens of ${NAME}`)) },
  { on: "Consumers", name: "a new secret is asked for", open: after(search, press(`New secret: ${NAME}`)) },
  { on: "Consumers", name: "a consumer is removed", open: after(search, press(`Remove: ${NAME}`)) },
  { on: "Consumers", name: "a tenant is added", open: press("Add tenant") },
  { on: "Consumers", name: "a tenant is changed", open: press("Change: default") },
  { on: "Consumers", name: "members of a tenant", open: press(/^Members: default/) },
  { on: "Chats", name: "one conversation", open: press(/^Open /) },
  { on: "Jobs", name: "one job", open: press(`Show job ${NAME}`) },
  { on: "Usage", name: "prices", open: press("Prices") },
];

/** What they are opened over. */
export async function fillForDialogs({ stack, sql }: Omit<Place, "page">): Promise<void> {
  const ask = async (path: string, body: unknown) => {
    const answer = await stack.invoke(path, body);
    if (!answer.ok) throw new Error(`${path}: ${await answer.text()}`);
    return await answer.json();
  };
  await ask("admin/consumers/add", { name: NAME, kind: "notebook" });
  await ask("llm-invoke", { model: MODEL, prompt: "Hello", request_id: NAME });
  await ask("api/v1/chats", { title: NAME, user_id: NAME });
  const run_at = new Date(Date.now() + 3_600_000).toISOString();
  const job = { kind: "llm", models: [MODEL], run_at, request_id: NAME, body: { path: "/", body: {} } };
  await sql`select public.eve_jobs_submit(${sql.json([job])})`;
}
