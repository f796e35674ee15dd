/** What an owner does with `eve storage`, on any store: the same commands, the same answers. */
import type postgres from "postgres";
import { expect, test } from "vitest";
import { eve } from "../../cli/eve.ts";
import { connect } from "../../cli/eve/connection.ts";
import type { TestStack } from "../harness/stack.ts";

export interface StorageWalk {
  /** With nothing stored, and room for 1 MB of a tenant's. */
  stack: Pick<TestStack, "url" | "keys">;
  sql: postgres.Sql;
  /** For what is sent and what comes back. */
  folder: string;
  storedIn: "s3" | "postgres";
  /** What the store holds, in order. */
  keys(): Promise<string[]>;
}

const TEXT = "План этажа\n".repeat(10_000);

export function walksThroughStorage(on: () => StorageWalk): void {
  async function run(...args: string[]) {
    const said: string[] = [];
    const complained: string[] = [];
    const shown: string[] = [];
    const code = await eve(["storage", ...args], {
      say: (text) => said.push(text),
      complain: (text) => complained.push(text),
      progress: (text) => shown.push(text),
      connect: () => connect(on().stack.url, on().stack.keys.secret),
    });
    return { code, said: said.join("\n"), complained: complained.join("\n"), shown };
  }

  async function json(...args: string[]) {
    const { code, said } = await run(...args, "--json");
    expect(code, said).toBe(0);
    return JSON.parse(said);
  }

  async function file(name: string, content: string): Promise<string> {
    await Deno.writeTextFile(`${on().folder}/${name}`, content);
    return `${on().folder}/${name}`;
  }

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
    expect(JSON.parse(first.said).stored_in).toBe(on().storedIn);
    expect(await json("upload", plan, "--key", "again.txt")).toMatchObject({ created: false });
    expect(await on().keys()).toEqual([JSON.parse(first.said).s3_key]);

    expect(await json("check-key", key)).toMatchObject({
      exists: true,
      file: { key, metadata: { page: 1 } },
    });
    expect(await run("check-key", "chats/42/none")).toMatchObject({
      code: 1,
      said: expect.stringContaining("no file"),
    });
    const { files } = await json("list", "--prefix", "chats/42/");
    expect(files.map((one: { key: string }) => one.key)).toEqual([key]);
    expect((await json("list")).files).toHaveLength(1);

    const output = `${on().folder}/out.txt`;
    const { sha256 } = await json("download", key, "--output", output);
    expect(await Deno.readTextFile(output)).toBe(TEXT);
    const { url } = await json("url", sha256, "--expires-in", "5m");
    expect(await (await fetch(url)).text()).toBe(TEXT);
  });

  test("JSON is stored packed, and comes out as it was", async () => {
    const text = JSON.stringify({ words: Array(10_000).fill("word") });
    const { sha256, size_bytes, stored_bytes } = await json("upload", await file("words.json", text));
    expect(stored_bytes).toBeLessThan(size_bytes / 10);
    const output = `${on().folder}/out.json`;
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
    await on().sql`
      update public.media_objects set address_until = null, expires_at = case state when 'reserved' then now() - interval '1 second' end`;
    await on().sql`select public.eve_media_deleted(public.eve_media_claim())`;
    const { total } = await json("quota");
    expect(await json("cleanup", "auto")).toMatchObject({ status: "not_needed", deleted_objects: 0 });
    expect(await json("cleanup", "media", "--max-age-days", "1")).toMatchObject({ deleted_objects: 0 });
    const dry = await json("cleanup", "auto", "--target-gb", "0", "--dry-run");
    expect(dry).toMatchObject({ dry_run: true, freed_bytes: total.used_bytes });
    expect((await json("quota")).total.used_bytes).toBe(total.used_bytes);
    expect(await on().keys()).toHaveLength(dry.deleted_objects);
    const done = await json("cleanup", "auto", "--target-gb", "0");
    expect(done).toMatchObject({ status: "done", deleted_objects: dry.deleted_objects, used_bytes_after: 0 });
    expect((await json("list")).files).toEqual([]);
    expect(await on().keys()).toEqual([]);
  });

  test("what the counters lost is counted again", async () => {
    await json("upload", await file("plan.txt", TEXT));
    await on().sql`update eve.media_counters set used_bytes = used_bytes + 1000 where scope = 'total'`;
    const report = await json("reconcile");
    expect(report).toMatchObject({
      status: "succeeded",
      details: { counters_repaired: [expect.objectContaining({ scope: "total" })] },
    });
    expect((await json("reconcile")).details.counters_repaired).toEqual([]);
  });
}
