/** `eve storage` against a stack with nothing configured: files are in the database. */
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eve } from "../../cli/eve.ts";
import { connect } from "../../cli/eve/connection.ts";
import { makeTestFolder } from "../harness/folders.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

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

async function run(...args: string[]) {
  const said: string[] = [];
  const complained: string[] = [];
  const shown: string[] = [];
  const code = await eve(["storage", ...args], {
    say: (text) => said.push(text),
    complain: (text) => complained.push(text),
    progress: (text) => shown.push(text),
    connect: () => connect(stack.url, stack.keys.secret),
  });
  return { code, said: said.join("\n"), complained: complained.join("\n"), shown };
}

async function json(...args: string[]) {
  const { code, said } = await run(...args, "--json");
  expect(code, said).toBe(0);
  return JSON.parse(said);
}

async function file(name: string, content: string): Promise<string> {
  await Deno.writeTextFile(`${folder.path}/${name}`, content);
  return `${folder.path}/${name}`;
}

const TEXT = "План этажа\n".repeat(10_000);

test("a file goes in once, is found, and comes out as it was", async () => {
  const plan = await file("plan.txt", TEXT);
  const key = "chats/42/documents/план этажа.txt";
  const first = await run("upload", plan, "--key", key, "--metadata", '{"page":1}', "--json");
  expect(JSON.parse(first.said)).toMatchObject({
    created: true,
    state: "verified",
    mime_type: "text/plain",
    key,
  });
  expect(first.shown.some((line) => /^Sending plan\.txt .*100%/.test(line)), first.shown.join("\n")).toBe(
    true,
  );
  expect(await json("upload", plan, "--key", "again.txt")).toMatchObject({ created: false });

  expect(await json("check-key", key)).toMatchObject({ exists: true, file: { key, metadata: { page: 1 } } });
  expect(await run("check-key", "chats/42/none")).toMatchObject({
    code: 1,
    said: expect.stringContaining("no file"),
  });
  const { files } = await json("list", "--prefix", "chats/42/");
  expect(files.map((one: { key: string }) => one.key)).toEqual([key]);
  expect((await json("list")).files).toHaveLength(1);

  const output = `${folder.path}/out.txt`;
  const { sha256 } = await json("download", key, "--output", output);
  expect(await Deno.readTextFile(output)).toBe(TEXT);
  const { url } = await json("url", sha256, "--expires-in", "5m");
  expect(await (await fetch(url)).text()).toBe(TEXT);
});

test("JSON is stored packed, and comes out as it was", async () => {
  const text = JSON.stringify({ words: Array(10_000).fill("word") });
  const { sha256, size_bytes, stored_bytes } = await json("upload", await file("words.json", text));
  expect(stored_bytes).toBeLessThan(size_bytes / 10);
  const output = `${folder.path}/out.json`;
  await json("download", sha256, "--output", output);
  expect(await Deno.readTextFile(output)).toBe(text);
});

test("a file of another type than it says, and one without room, are refused with what to do", async () => {
  expect(await run("upload", await file("no.png", `not ${TEXT}`))).toMatchObject({
    code: 1,
    complained: expect.stringMatching(/^media_type_mismatch/),
  });
  expect(await run("upload", await file("large.txt", TEXT.repeat(6)))).toMatchObject({
    code: 1,
    complained: expect.stringMatching(/^storage_quota_exceeded: .*storage cleanup/),
  });
});

test("room is shown by limit, kind and tenant", async () => {
  const quota = await json("quota");
  expect(quota).toMatchObject({ tenant_id: "default", tenant: { limit_bytes: 1_000_000, objects: 2 } });
  expect((await run("quota")).said).toMatch(/tenant default +\d+ kB +1\.0 MB/);
  const usage = await json("usage", "--tenant-id", "default");
  expect(usage.kinds.media).toMatchObject({ objects: 2, used_bytes: quota.tenant.used_bytes });
  expect((await json("usage")).total.used_bytes).toBe(quota.total.used_bytes);
  expect((await run("usage")).said).toMatch(/tenant default/);
  expect(await run("quota", "--tenant-id", "nobody")).toMatchObject({
    code: 1,
    complained: expect.stringMatching(/^unknown_tenant/),
  });
});

test("a clean-up is tried dry, then done, and leaves what is too young", async () => {
  // What is deleted holds its room until nobody can send it again by the address that somebody was given.
  await sql`
    update public.media_objects set address_until = null, expires_at = case state when 'reserved' then now() - interval '1 second' end`;
  await sql`select public.eve_media_deleted(public.eve_media_claim())`;
  const { total } = await json("quota");
  expect(await json("cleanup", "auto")).toMatchObject({ status: "not_needed", deleted_objects: 0 });
  expect(await json("cleanup", "media", "--max-age-days", "1")).toMatchObject({ deleted_objects: 0 });
  const dry = await json("cleanup", "auto", "--target-gb", "0", "--dry-run");
  expect(dry).toMatchObject({ dry_run: true, freed_bytes: total.used_bytes });
  expect((await json("quota")).total.used_bytes).toBe(total.used_bytes);
  const done = await json("cleanup", "auto", "--target-gb", "0");
  expect(done).toMatchObject({ status: "done", deleted_objects: dry.deleted_objects, used_bytes_after: 0 });
  expect((await json("list")).files).toEqual([]);
});

test("what the counters lost is counted again", async () => {
  await json("upload", await file("plan.txt", TEXT));
  await sql`update eve.media_counters set used_bytes = used_bytes + 1000 where scope = 'total'`;
  const report = await json("reconcile");
  expect(report).toMatchObject({
    status: "succeeded",
    details: { counters_repaired: [expect.objectContaining({ scope: "total" })] },
  });
  expect((await json("reconcile")).details.counters_repaired).toEqual([]);
});

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
