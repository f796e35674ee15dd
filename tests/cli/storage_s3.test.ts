/** `eve storage` and Python's `s3_storage` against a stack whose files are in a real S3. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import postgres from "postgres";
import { eve } from "../../cli/eve.ts";
import { connect } from "../../cli/eve/connection.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { makeTestFolder } from "../harness/folders.ts";
import { pngOf, scene } from "../harness/made_pictures.ts";
import { startOutsideWorker } from "../harness/outside_worker.ts";
import { until } from "../harness/patience.ts";
import { type Radosgw, startRadosgw } from "../harness/radosgw.ts";
import { hasProgram } from "../harness/programs.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";
import { withoutRadosgw } from "../harness/stores.ts";
import { HAS_TESSERACT } from "../harness/tesseract.ts";
import { storeOf } from "../storage/s3_behaviour.ts";
import { walksThroughStorage } from "./storage_walk.ts";

const hasPython = Deno.env.has("CI") || hasProgram("python3");

describe.skipIf(withoutRadosgw)("files in S3", () => {
  let radosgw: Radosgw;
  let bucket: Awaited<ReturnType<Radosgw["newBucket"]>>;
  let stack: TestStack;
  let sql: postgres.Sql;
  let s3: Record<string, string>;
  let folder: Awaited<ReturnType<typeof makeTestFolder>>;
  beforeAll(async () => {
    folder = await makeTestFolder();
    radosgw = await startRadosgw();
    bucket = await radosgw.newBucket();
    s3 = {
      S3_ENDPOINT_URL: bucket.endpoint,
      S3_REGION: bucket.region,
      S3_BUCKET_NAME: bucket.bucket,
      S3_ACCESS_KEY_ID: bucket.accessKeyId,
      S3_SECRET_ACCESS_KEY: bucket.secretAccessKey,
      S3_PART_SIZE_MB: "10",
    };
    stack = await startTestStack({ env: s3 });
    sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
  });
  afterAll(async () => {
    await sql?.end({ timeout: 5 });
    await stack?.stop();
    await radosgw?.stop();
    await folder?.remove();
  });

  async function run(...args: string[]) {
    const said: string[] = [];
    const code = await eve(["storage", ...args, "--json"], {
      say: (text) => said.push(text),
      complain: () => {},
      connect: () => connect(stack.url, stack.keys.secret),
    });
    return { code, answer: JSON.parse(said.join("\n")) };
  }

  async function file(name: string, content: Uint8Array): Promise<string> {
    await Deno.writeFile(`${folder.path}/${name}`, content);
    return `${folder.path}/${name}`;
  }

  describe("as an owner uses them, on radosgw", () => {
    const walk = () => `${folder.path}/walk`;
    beforeAll(async () => {
      await Deno.mkdir(walk());
      await limitTenants(1_000_000);
    });
    afterAll(() => limitTenants(2_000_000_000));
    walksThroughStorage(() => ({
      stack,
      sql,
      folder: walk(),
      storedIn: "s3",
      keys: async () => (await storeOf(bucket).list({ prefix: "media/" })).objects.map(({ key }) => key),
    }));
  });

  const limitTenants = async (bytes: number) =>
    void await sql`update eve.media_limits set limit_bytes = ${bytes} where name = 'tenant'`;

  /** Larger than what the function takes in one body. */
  const LARGE = new Uint8Array(24_000_000).map((_, at) => (at * 7) ^ (at >> 9));

  test("a file larger than a request goes straight to the bucket, in parts, and comes out as it was", async () => {
    const { code, answer } = await run(
      "upload",
      await file("large.bin", LARGE),
      "--key",
      "chats/1/files/large.bin",
    );
    expect([code, answer]).toMatchObject([0, { created: true, stored_in: "s3" }]);
    const inBucket = await storeOf(bucket).head(answer.s3_key);
    expect(inBucket?.sizeBytes).toBe(LARGE.byteLength);
    // So many were its parts.
    expect(inBucket?.etag).toMatch(/-3$/);
    const output = `${folder.path}/out.bin`;
    expect((await run("download", "chats/1/files/large.bin", "--output", output)).code).toBe(0);
    expect(await Deno.readFile(output)).toEqual(LARGE);
  });

  test("JSON is packed in the bucket and comes out as it was", async () => {
    const text = JSON.stringify({ words: Array(10_000).fill("word") });
    const { answer } = await run("upload", await file("words.json", new TextEncoder().encode(text)));
    expect((await storeOf(bucket).head(answer.s3_key))?.sizeBytes).toBe(answer.stored_bytes);
    expect(answer.stored_bytes).toBeLessThan(text.length / 10);
    const output = `${folder.path}/out.json`;
    expect((await run("download", answer.sha256, "--output", output)).code).toBe(0);
    expect(await Deno.readTextFile(output)).toBe(text);
  });

  test("what the bucket has lost is missing, what nobody knows is unknown", async () => {
    const { answer } = await run("upload", await file("lost.txt", new TextEncoder().encode("lost")));
    const store = storeOf(bucket);
    const before = await run("reconcile");
    expect([before.code, before.answer.details]).toMatchObject([0, { missing: 0, unknown: 0 }]);
    await store.delete(answer.s3_key);
    const after = await run("reconcile");
    expect([after.code, after.answer.details]).toMatchObject([1, {
      missing: 1,
      named: { missing: [answer.s3_key] },
    }]);
    expect((await run("cleanup", "multipart")).answer).toMatchObject({ status: "done" });
  });

  async function python(script: string[], env: Record<string, string> = {}) {
    const { code, stdout, stderr } = await new Deno.Command("python3", {
      args: ["-W", "error", ...script],
      cwd: `${CHECKOUT}/tests/python`,
      env: {
        EVE_GATEWAY_URL: stack.url,
        EVE_GATEWAY_SECRET: stack.keys.secret,
        EVE_STORAGE_SECRET: stack.keys.secret,
        EVE_STORAGE_FOLDER: `${folder.path}/kept`,
        PYTHONPATH: `${CHECKOUT}/clients/python`,
        PYTHONDONTWRITEBYTECODE: "1",
        ...env,
      },
    }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    expect(code, text(stderr)).toBe(0);
    return { said: text(stdout).trim(), complained: text(stderr) };
  }

  /** A worker outside that has no settings of S3 does what came later, and says why it leaves what is about files. */
  async function leavesFilesToOthers() {
    await sql`update eve.settings set value = 0 where name = 'jobs_workers'`;
    await until(async () => (await sql`select from eve.job_workers`).length === 0);
    // To claim one and give it back moves its time.
    const due = async () =>
      (await sql`
        select id from eve.jobs where state = 'queued' and kind in ('vision', 'ocr') and run_at <= now() order by id`)
        .map(({ id }) => id);
    await sql`update eve.jobs set run_at = now() where state = 'queued'`;
    const before = await due();
    expect(before).toHaveLength(2);
    const worker = startOutsideWorker(stack);
    try {
      const response = await stack.invoke("llm-invoke", {
        model: "gemini-3.5-flash",
        prompt: "Later",
        mode: "queue",
      });
      const { job: { id } } = await response.json();
      await until(async () => {
        const [job] = await sql`select state from eve.jobs where id = ${id}`;
        return job!.state === "succeeded";
      });
      expect(await due()).toEqual(before);
      expect(worker.said()).toContain("Jobs about files (vision, ocr, crawl, telegram) are left to others");
    } finally {
      await worker.stop();
      await sql`update eve.settings set value = 2 where name = 'jobs_workers'`;
    }
  }

  test("a post's picture is looked at, what was found is kept in the bucket, and without a budget tesseract reads it", async () => {
    const vision = async (...args: string[]) => {
      const said: string[] = [];
      await eve([...args, "--json"], {
        say: (text) => said.push(text),
        complain: (text) => said.push(text),
        connect: () => connect(stack.url, stack.keys.secret),
      });
      return JSON.parse(said.join("\n"));
    };
    const brought = async (seed: number) =>
      await vision("posts", "add", "--media", await file(`${seed}.png`, pngOf(scene(seed, 120, 96))));
    const enrichmentOf = async ({ id }: { id: string }) =>
      (await vision("vision", "check", "--post-id", id)).enrichment[0];
    const post = await brought(1);
    await until(async () => (await enrichmentOf(post)).status !== "waiting");
    const found = await enrichmentOf(post);
    expect(found, found.reason).toMatchObject({ status: "done", from_cache: false });
    const search = await fetch(
      `${stack.url}/functions/v1/api/v1/vision/search?label=${encodeURIComponent(found.labels[0])}`,
      { headers: { apikey: stack.keys.secret } },
    );
    expect(await search.json()).toMatchObject({ found: [{ enrichment: { post_id: post.id } }] });
    const kept = await sql`
      select s3_key, stored_in from public.media_objects where kind = 'vision' and state in ('stored', 'verified')`;
    expect(kept).toMatchObject([{ stored_in: "s3" }]);
    expect(await storeOf(bucket).head(kept[0]!.s3_key)).not.toBeNull();
    expect(await storeOf(bucket).head((await run("check-key", found.file_sha256)).answer.file.s3_key)).not
      .toBeNull();

    await vision("vision", "budget", "--set", "*:day:pictures=0");
    const unpaid = await brought(2);
    await until(async () => /a worker is waited for/.test((await enrichmentOf(unpaid)).reason ?? ""));
    await leavesFilesToOthers();
    if (!HAS_TESSERACT) return;
    const worker = startOutsideWorker(stack, s3);
    try {
      await until(async () => {
        await sql`update eve.jobs set run_at = now() where state = 'queued' and kind = 'vision'`;
        return (await enrichmentOf(unpaid)).status !== "waiting";
      });
    } finally {
      await worker.stop();
    }
    const read = await enrichmentOf(unpaid);
    expect(read, read.reason).toMatchObject({ status: "done", provider: "tesseract", tokens: 0 });
  });

  test.skipIf(!hasPython)("Python's files go there too", async () => {
    const { complained } = await python(["-m", "unittest", "test_s3_storage.Running"]);
    expect(complained).toMatch(/^OK$/m);
  });

  test.skipIf(!hasPython)("Python's large file goes there in parts", async () => {
    const { said } = await python([
      "-c",
      "from s3_storage import s3_storage; print(s3_storage.upload_file_sync(b'large' * 5_000_000, 'large.py.bin'))",
    ]);
    const read = new Uint8Array(await (await fetch(said)).arrayBuffer());
    expect(read.byteLength).toBe(25_000_000);
    expect(new TextDecoder().decode(read.slice(-10))).toBe("largelarge");
    const { answer } = await run("check-key", "large.py.bin");
    expect((await storeOf(bucket).head(answer.file.s3_key))?.etag).toMatch(/-3$/);
  });

  test.skipIf(!hasPython)("while S3 is away Python's file is kept by the gateway, and readable", async () => {
    await python([
      "-c",
      "from s3_storage import s3_storage; s3_storage.upload_file_sync(b'before', 'before.txt')",
    ]);
    await radosgw.crash();
    try {
      const { said } = await python([
        "-c",
        "from s3_storage import s3_storage; print(s3_storage.upload_file_sync(b'meanwhile', 'meanwhile.txt'))",
      ]);
      expect(await (await fetch(said)).text()).toBe("meanwhile");
      expect((await run("check-key", "meanwhile.txt")).answer.file).toMatchObject({ stored_in: "postgres" });
    } finally {
      await radosgw.revive();
    }
  });
});
