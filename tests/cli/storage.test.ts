/** `eve storage` against a stack with nothing configured: files are in the database. */
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eve } from "../../cli/eve.ts";
import { connect } from "../../cli/eve/connection.ts";
import { makeTestFolder } from "../harness/folders.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";
import { walksThroughStorage } from "./storage_walk.ts";

let stack: TestStack;
let folder: Awaited<ReturnType<typeof makeTestFolder>>;
let sql: postgres.Sql;
beforeAll(async () => {
  folder = await makeTestFolder();
  stack = await startTestStack({ env: { S3_PER_TENANT_LIMIT_GB: "0.001" } });
  sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
});
afterAll(async () => {
  await sql?.end();
  await stack?.stop();
  await folder?.remove();
});

walksThroughStorage(() => ({
  stack,
  sql,
  folder: folder.path,
  storedIn: "postgres",
  keys: async () => (await sql`select key from eve.media_spool order by 1`).map(({ key }) => key),
}));

/** A picture of 80 x 64, of which no analyst needs more than the beginning; another one for each number. */
function png(number: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(5_000);
  bytes.set([
    0x89,
    0x50,
    0x4e,
    0x47,
    13,
    10,
    26,
    10,
    0,
    0,
    0,
    13,
    0x49,
    0x48,
    0x44,
    0x52,
    0,
    0,
    0,
    80,
    0,
    0,
    0,
    64,
    8,
    2,
  ]);
  new DataView(bytes.buffer).setUint32(1_000, number);
  return bytes;
}

test("a post with a picture is brought, looked at, checked and found; a budget of nothing is told", async () => {
  const bytes = png(0);
  const path = `${folder.path}/poster.png`;
  await Deno.writeFile(path, bytes);
  const vision = async (...args: string[]) => {
    const said: string[] = [];
    const code = await eve([...args, "--json"], {
      say: (text) => said.push(text),
      complain: (text) => said.push(text),
      connect: () => connect(stack.url, stack.keys.secret),
    });
    return { code, ...JSON.parse(said.join("\n")) };
  };
  expect(await vision("vision", "test", "--media-file", path)).toMatchObject({
    header: { mimeType: "image/png", width: 80, height: 64 },
    decision: { action: "analyse", reason: "small" },
  });
  const post = await vision("posts", "add", "--text", "Concert", "--media", path);
  await expect.poll(
    async () => (await vision("vision", "check", "--post-id", post.id)).enrichment[0].status,
    {
      timeout: 60_000,
      interval: 500,
    },
  ).not.toBe("waiting");
  const { enrichment } = await vision("vision", "check", "--post-id", post.id);
  expect(enrichment, JSON.stringify(enrichment)).toMatchObject([{ status: "done" }]);
  expect(await vision("vision", "stats")).toMatchObject({ pictures: { done: 1 } });
  expect(await vision("vision", "budget", "--set", "*:day:pictures=0")).toMatchObject({
    budgets: [{ provider: "*", unit: "pictures", most: 0, used: 1 }],
  });
  expect(await vision("vision", "budget", "--set", "none")).toMatchObject({ budgets: [] });
});

test("a message with two pictures and a link, written in the stack's own Telegram, becomes a post that is looked at, in one trace", async () => {
  const telegram = async (...args: string[]) => {
    const said: string[] = [];
    const code = await eve(["telegram", ...args, "--json"], {
      say: (text) => said.push(text),
      complain: (text) => said.push(text),
      connect: () => connect(stack.url, stack.keys.secret),
    });
    return { code, ...JSON.parse(said.join("\n")) };
  };
  const pictures = await Promise.all([1, 2].map(async (number) => {
    const path = `${folder.path}/telegram_${number}.png`;
    await Deno.writeFile(path, png(number));
    return path;
  }));
  expect(await telegram("status")).toMatchObject({
    code: 0,
    bot: { username: "EveLocalBot", chats: null, is_connected: true },
    webhook: { is_ours: true, pending: 0 },
  });
  const text = "Concert tonight: https://example.com/tickets";
  expect(await telegram("emulate", "--text", text, "--photos", pictures.join(","))).toMatchObject({
    code: 0,
    message_ids: [1, 2],
  });
  const found = async () =>
    (await sql`
      select p.text, p.trace_id, p.metadata -> 'links' as links,
        array(select e.status from public.post_enrichment e where e.post_id = p.id) as statuses,
        array(select distinct e.trace_id from public.post_enrichment e where e.post_id = p.id) as picture_traces,
        array(select distinct u.trace_id from eve.telegram_updates u) as update_traces
      from public.posts p where p.source = 'telegram:city_events'`)[0];
  await expect.poll(async () => (await found())?.statuses, { timeout: 60_000, interval: 300 })
    .toEqual(["done", "done"]);
  const post = (await found())!;
  expect(post).toMatchObject({
    text,
    links: ["https://example.com/tickets"],
    picture_traces: [post.trace_id],
    update_traces: [post.trace_id],
  });
  await telegram("emulate", "--edit", "1", "--text", "Cancelled");
  await expect.poll(async () => (await found())?.text, { timeout: 60_000, interval: 300 }).toBe("Cancelled");
  expect((await telegram("status")).code).toBe(0);
  // The secret that opens the function is in nothing that it printed.
  expect(stack.printed.join("\n")).not.toContain("local-demo-bot");
});
