/** Files in a real store (Ceph's), through the whole stack: the function is killed, the line to the store is cut, and fifty come at once. */
import { AwsClient } from "aws4fetch";
import OpenAI, { toFile } from "openai";
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { sha256Of } from "../../shared/media/hash.ts";
import { moveClock } from "../harness/database_clock.ts";
import { empty } from "../harness/rows.ts";
import { type FaultyProxy, startFaultyProxy } from "../harness/faulty_proxy.ts";
import { type Answer, expectExactCounters, setLimit } from "../harness/media.ts";
import { until } from "../harness/patience.ts";
import { type Radosgw, startRadosgw } from "../harness/radosgw.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";
import { withoutRadosgw } from "../harness/stores.ts";

/** By name, in real time: `EVE_STORE_AWAY_S=60 npm test -- tests/e2e/media_s3.test.ts`. Else as long as 60 uploads take. */
const AWAY_SECONDS = Number(Deno.env.get("EVE_STORE_AWAY_S") ?? 0);

const bytes = (text: string) => new TextEncoder().encode(text);

describe.skipIf(withoutRadosgw)("files in a real store", () => {
  let ceph: Radosgw;
  let line: FaultyProxy;
  let stack: TestStack;
  let sql: postgres.Sql;
  let bucketUrl: string;
  let client: AwsClient;

  beforeAll(async () => {
    ceph = await startRadosgw();
    const settings = await ceph.newBucket();
    line = startFaultyProxy(settings.endpoint);
    bucketUrl = `${settings.endpoint}/${settings.bucket}`;
    const { accessKeyId, secretAccessKey, region } = settings;
    client = new AwsClient({ accessKeyId, secretAccessKey, region, service: "s3", retries: 0 });
    stack = await startTestStack({
      env: {
        S3_ENDPOINT_URL: line.url,
        S3_BUCKET_NAME: settings.bucket,
        S3_REGION: region,
        S3_ACCESS_KEY_ID: accessKeyId,
        S3_SECRET_ACCESS_KEY: secretAccessKey,
        // As small as S3 takes parts.
        S3_PART_SIZE_MB: "5.25",
      },
    });
    sql = postgres(stack.databaseUrl, { max: 4, onnotice: () => {} });
  });
  afterAll(async () => {
    await sql?.end({ timeout: 5 });
    await stack?.stop();
    line?.stop();
    await ceph?.stop();
  });
  beforeEach(async () => {
    line.fault("none");
    await moveClock(sql, 0);
    for (const { key } of await listing()) await client.fetch(`${bucketUrl}/${key}`, { method: "DELETE" });
    await empty(sql, "eve.media_references", "public.media_objects", "eve.media_spool");
    await sql`update eve.media_counters set used_bytes = 0, reserved_bytes = 0, objects = 0`;
    await setLimit(sql, { total: 15e9, emergency: 14e9, tenant: 2e9, media: 10e9, spool: 1e8 });
  });

  const ask = (method: string, path: string, init: RequestInit = {}) =>
    fetch(`${stack.url}/functions/v1/api${path}`, {
      ...init,
      method,
      headers: { apikey: stack.keys.secret, ...init.headers },
      redirect: "manual",
    });
  const upload = (text: string) =>
    ask("POST", "/v1/media", { body: bytes(text), headers: { "content-type": "text/plain" } });
  const json = (body: unknown) => ({
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  async function listing(): Promise<{ key: string; size: number }[]> {
    const text = await (await client.fetch(`${bucketUrl}?list-type=2`)).text();
    return [...text.matchAll(/<Key>([^<]+)<\/Key>.*?<Size>(\d+)<\/Size>/gs)].map(([, key, size]) => ({
      key: key!,
      size: Number(size),
    })).filter(({ key }) => key.startsWith("media/"));
  }
  /** The bucket's listing, the registry and the counters say the same. */
  async function expectEven(): Promise<void> {
    const rows =
      await sql`select s3_key as key, stored_bytes::int as size from public.media_objects order by s3_key collate "C"`;
    expect((await listing()).sort((a, b) => a.key < b.key ? -1 : 1)).toEqual([...rows]);
    await expectExactCounters(sql);
  }
  const maintain = async (): Promise<Answer> => await (await stack.invoke("maintenance/media", {})).json();

  test("fifty uploads against room for twenty: twenty in the bucket, and the counters are its listing", async () => {
    await setLimit(sql, { tenant: 20 * 1000 + 500 });
    const statuses = await Promise.all(
      Array.from({ length: 50 }, async (_, n) => {
        // What may be tried again is, as clients do: this machine may be busy.
        for (;;) {
          const response = await upload(String(n).padEnd(1000, "x"));
          const { error } = await response.json();
          if (!error?.retryable) return response.status;
        }
      }),
    );
    expect(statuses.filter((status) => status === 201)).toHaveLength(20);
    expect(statuses.filter((status) => status === 507)).toHaveLength(30);
    expect(await listing()).toHaveLength(20);
    await expectEven();
  });

  test("an announced file goes straight to the bucket, which takes no other bytes; and is read from there", async () => {
    const text = "<svg xmlns='http://www.w3.org/2000/svg'/>";
    const sha256 = await sha256Of(bytes(text));
    const begun = await (await ask(
      "POST",
      "/v1/media/uploads",
      json({ sha256, size_bytes: text.length, content_type: "image/svg+xml" }),
    )).json();
    const { "content-length": _, ...headers } = begun.upload.headers;
    const put = async (body: string) => {
      const response = await fetch(begun.upload.url, { method: "PUT", headers, body });
      await response.body?.cancel();
      return response.status;
    };
    expect(await put(text.toUpperCase())).toBe(400);
    expect(await put(text)).toBe(200);
    const verified = await ask("POST", `/v1/media/uploads/${sha256}/verify`, json(begun.verify.body));
    expect(await verified.json()).toMatchObject({ state: "verified", stored_in: "s3" });
    const { headers: redirect } = await ask("GET", `/v1/media/${sha256}`);
    const read = await fetch(redirect.get("location")!);
    expect(read.headers.get("content-disposition")).toMatch(/^attachment/);
    expect(await read.text()).toBe(text);
    await expectEven();
  });

  test("JSON that one body cannot hold goes straight to the bucket, and is read from there as it was", async () => {
    const text = JSON.stringify({ rows: Array.from({ length: 1_100_000 }, (_, n) => n * 1_000) });
    const body = bytes(text);
    expect(body.length).toBeGreaterThan(10 * 1024 * 1024);
    const sha256 = await sha256Of(body);
    const announcement = { sha256, size_bytes: body.length, content_type: "application/json" };
    const small = await ask(
      "POST",
      "/v1/media/uploads",
      json({ ...announcement, size_bytes: 10 * 1024 * 1024 }),
    );
    expect([small.status, (await small.json()).error.message]).toEqual([
      400,
      "JSON and HTML are stored packed, and are sent through the function: POST /v1/media.",
    ]);
    const begun = await (await ask("POST", "/v1/media/uploads", json(announcement))).json();
    for (
      const { url, method, headers: { "content-length": _, ...headers }, offset, size_bytes } of begun.upload
        .parts
    ) {
      const put = await fetch(url, { method, headers, body: body.slice(offset, offset + size_bytes) });
      await put.body?.cancel();
      expect(put.status).toBe(200);
    }
    const verified = await ask("POST", `/v1/media/uploads/${sha256}/verify`, json(begun.verify.body));
    expect(await verified.json()).toMatchObject({ stored_in: "s3", size_bytes: body.length });
    const { headers } = await ask("GET", `/v1/media/${sha256}`);
    const read = await fetch(headers.get("location")!);
    expect(await read.text() === text).toBe(true);
    await until(async () => (await sql`select state from public.media_objects`)[0]!.state === "verified");
    await expectEven();
  });

  describe("a file that is larger than a part", () => {
    const LARGE = new Uint8Array(11_000_000).map((_, at) => (at * 7) ^ (at >> 9));
    async function announce(): Promise<Answer> {
      const sha256 = await sha256Of(LARGE);
      const body = { sha256, size_bytes: LARGE.length, content_type: "application/octet-stream" };
      const answer = await (await ask("POST", "/v1/media/uploads", json(body))).json();
      return { sha256, ...answer, parts: answer.upload?.parts };
    }
    async function send({ url, method, headers, offset, size_bytes }: Answer, more = 0) {
      const { "content-length": _, ...others } = headers;
      const response = await fetch(url, {
        method,
        headers: others,
        body: LARGE.slice(offset, offset + size_bytes + more),
      });
      await response.body?.cancel();
      return response.status;
    }
    async function unfinished(): Promise<number> {
      const text = await (await client.fetch(`${bucketUrl}?uploads`)).text();
      return text.match(/<Upload>/g)?.length ?? 0;
    }
    const verify = (sha256: string, body: unknown) =>
      ask("POST", `/v1/media/uploads/${sha256}/verify`, json(body));

    test("goes in parts, of which those that came are not asked for again; and is read back and proven", async () => {
      const begun = await announce();
      expect(begun.parts.map((part: Answer) => [part.part_number, part.offset, part.size_bytes])).toEqual([
        [1, 0, 5_250_000],
        [2, 5_250_000, 5_250_000],
        [3, 10_500_000, 500_000],
      ]);
      // Room is taken before a byte is sent, and no more can be sent than that.
      expect(await sql`select reserved_bytes::int as bytes from eve.media_counters where scope = 'total'`)
        .toEqual([{ bytes: LARGE.length }]);
      expect(await send(begun.parts[2], -1)).toBe(403);
      expect(await send(begun.parts[2])).toBe(200);
      expect(await send(begun.parts[0])).toBe(200);
      const early = await verify(begun.sha256, begun.verify.body);
      expect(early.status).toBe(404);
      expect((await early.json()).error.details).toEqual({ missing_parts: [2], parts: 3 });
      const again = await announce();
      expect(again.parts.map((part: Answer) => part.part_number)).toEqual([2]);
      expect(await unfinished()).toBe(1);
      expect(await send(again.parts[0])).toBe(200);
      const verified = await verify(begun.sha256, begun.verify.body);
      expect(await verified.json()).toMatchObject({
        state: "stored",
        stored_in: "s3",
        size_bytes: LARGE.length,
      });
      expect(await unfinished()).toBe(0);
      // The addresses of its parts ended with it.
      expect(await send(begun.parts[0])).toBe(404);
      await until(async () => (await sql`select state from public.media_objects`)[0]!.state === "verified");
      const { headers } = await ask("GET", `/v1/media/${begun.sha256}`);
      const read = await (await fetch(headers.get("location")!)).arrayBuffer();
      expect(await sha256Of(new Uint8Array(read))).toBe(begun.sha256);
      expect((await announce()).status).toBe("present");
      await expectEven();
    });

    test("is refused for want of room before any part of it is sent", async () => {
      await setLimit(sql, { tenant: LARGE.length - 1 });
      expect(await announce()).toMatchObject({ error: { code: "storage_quota_exceeded" } });
      expect(await unfinished()).toBe(0);
    });

    test("that is given up leaves no part behind, and no room taken", async () => {
      const begun = await announce();
      expect(await send(begun.parts[0])).toBe(200);
      const abort = () => ask("POST", `/v1/media/uploads/${begun.sha256}/abort`, json(begun.abort.body));
      expect(await (await abort()).json()).toEqual({ status: "aborted" });
      expect(await unfinished()).toBe(0);
      expect(await (await abort()).json()).toEqual({ status: "none" });
      expect(await send(begun.parts[1])).toBe(404);
      await expectEven();
    });

    test("that nobody goes on with leaves after its day", async () => {
      const begun = await announce();
      expect(await send(begun.parts[0])).toBe(200);
      await moveClock(sql, 86_401_000);
      expect(await maintain()).toMatchObject({ status: "succeeded", details: { unfinished: 1 } });
      expect(await unfinished()).toBe(0);
      expect(await verify(begun.sha256, begun.verify.body).then(({ status }) => status)).toBe(404);
      await expectEven();
    });
  });

  describe("a function that is killed between the put and the note of it", () => {
    async function killInTheMiddle(text: string): Promise<void> {
      // It starts with its first request.
      await (await ask("GET", "/v1/storage/health")).body?.cancel();
      const { pid } = stack.functions.get("api")!;
      // What is sent arrives; nothing that is answered does.
      line.fault({ silentAfter: 0 });
      const answer = upload(text).then((response) => response.body?.cancel(), () => {});
      await until(async () => (await listing()).length === 1);
      Deno.kill(pid!, "SIGKILL");
      await answer;
      line.fault("none");
      await until(async () => (await ask("GET", "/v1/storage/health")).status === 200);
      expect(await sql`select state from public.media_objects`).toEqual([{ state: "reserved" }]);
    }

    test("leaves an object that the same upload takes up again, counted once", async () => {
      await killInTheMiddle("half of it");
      const response = await upload("half of it");
      expect(response.status, await response.clone().text()).toBe(201);
      expect(await response.json()).toMatchObject({ state: "verified" });
      await expectEven();
    });

    test("leaves no orphan, if nobody comes back", async () => {
      await killInTheMiddle("for ever half");
      await moveClock(sql, 16 * 60_000);
      expect(await maintain()).toMatchObject({ status: "succeeded", details: { unfinished: 1 } });
      expect(await listing()).toEqual([]);
      await expectEven();
    });
  });

  describe("a process that is killed", () => {
    const begin = async (text: string) => {
      const sha256 = await sha256Of(bytes(text));
      const body = { sha256, size_bytes: text.length, content_type: "text/plain" };
      return { sha256, ...await (await ask("POST", "/v1/media/uploads", json(body))).json() };
    };
    const send = async ({ url, headers: { "content-length": _, ...headers } }: Answer, body: string) => {
      const put = await fetch(url, { method: "PUT", headers, body });
      await put.body?.cancel();
      return put.status;
    };
    /** Kills it once `reached`, while what the store answers is lost on the way. */
    async function kill(name: string, work: () => Promise<unknown>, reached: () => Promise<boolean>) {
      const { pid } = stack.functions.get(name)!;
      line.fault({ silentAfter: 0 });
      const used = line.used;
      const ended = work().catch(() => {});
      await until(async () => line.used > used && await reached());
      Deno.kill(pid!, "SIGKILL");
      line.fault("none");
      await ended;
    }
    /** Once the new process is there, and the killed one's turn is over. */
    async function maintained(): Promise<Answer> {
      await moveClock(sql, 16 * 60_000);
      let run: Answer = {};
      await until(async () => {
        run = await maintain().catch(() => ({}));
        return run.status === "succeeded";
      });
      return run;
    }

    test("while it verifies an announced upload: to verify again is enough", async () => {
      const { sha256, upload, verify } = await begin("announced, and sent");
      expect(await send(upload, "announced, and sent")).toBe(200);
      const again = () => ask("POST", `/v1/media/uploads/${sha256}/verify`, json(verify.body));
      await kill("api", again, () => Promise.resolve(true));
      expect(await sql`select state from public.media_objects`).toEqual([{ state: "reserved" }]);
      await until(async () => (await ask("GET", "/v1/storage/health")).status === 200);
      expect(await (await again()).json()).toMatchObject({ state: "verified", stored_in: "s3" });
      await expectEven();
    });

    test("and never verified: the bucket keeps nothing of it, and its room is free", async () => {
      const { upload } = await begin("announced, and left");
      expect(await send(upload, "announced, and left")).toBe(200);
      await moveClock(sql, 25 * 3_600_000);
      expect(await maintain()).toMatchObject({ status: "succeeded", details: { unfinished: 1 } });
      expect(await listing()).toEqual([]);
      await expectEven();
    });

    test("while it moves a file from the database to the bucket: it is there once, and nowhere else", async () => {
      await (await ask("GET", "/v1/storage/health")).body?.cancel();
      await maintain();
      line.away();
      expect(await (await upload("to be moved")).json()).toMatchObject({ stored_in: "postgres" });
      line.back();
      await kill("maintenance", maintain, async () => (await listing()).length === 1);
      expect(await sql`select stored_in from public.media_objects`).toEqual([{ stored_in: "postgres" }]);
      await maintained();
      expect(await sql`select stored_in from public.media_objects`).toEqual([{ stored_in: "s3" }]);
      expect(await sql`select from eve.media_spool`).toHaveLength(0);
      const { key } = (await listing())[0]!;
      expect(await (await client.fetch(`${bucketUrl}/${key}`)).text()).toBe("to be moved");
      await expectEven();
    });

    test("while it deletes what is over its time: the next run goes on, and nothing is counted that is gone", async () => {
      await maintain();
      for (const text of ["one", "two", "three"]) await (await upload(text)).body?.cancel();
      await moveClock(sql, 400 * 86_400_000);
      await kill("maintenance", maintain, async () => (await listing()).length < 3);
      await moveClock(sql, 401 * 86_400_000);
      await until(async () => (await maintain().catch(() => ({ status: "" }))).status === "succeeded");
      expect(await listing()).toEqual([]);
      await expectEven();
    });
  });

  test("while the store is away every upload that is answered is in the bucket afterwards, byte for byte", async () => {
    await (await upload("before")).body?.cancel();
    line.away();
    const answered = new Map<string, string>();
    await Promise.all(Array.from({ length: 8 }, async (_, n) => {
      const text = `while it was away ${n} ${"x".repeat(n * 5000)}`;
      const response = await upload(text);
      const answer = await response.json();
      expect(response.status, JSON.stringify(answer)).toBe(201);
      expect(answer.stored_in).toBe("postgres");
      answered.set(answer.s3_key, text);
      // And is read meanwhile.
      expect(await (await fetch(answer.url)).text()).toBe(text);
    }));
    line.back();
    expect(await maintain()).toMatchObject({ status: "succeeded", details: { moved_to_s3: 8 } });
    for (const [key, text] of answered) {
      expect(await (await client.fetch(`${bucketUrl}/${key}`)).text()).toBe(text);
    }
    expect(await sql`select from eve.media_spool`).toHaveLength(0);
    await expectEven();
    expect(await (await stack.invoke("maintenance/media_reconcile", {})).json()).toMatchObject({
      status: "succeeded",
      details: {
        listed: 9,
        unknown: 0,
        missing: 0,
        resized: 0,
        counters_repaired: [],
        parts_aborted: 0,
        lifecycle: "set now",
      },
    });
    expect(await (await stack.invoke("maintenance/media_reconcile", {})).json()).toMatchObject({
      details: { lifecycle: "set" },
    });
  });

  test("away under load, it is missed by nobody: every upload that was answered is in the bucket, byte for byte", async () => {
    const answered = new Map<string, string>();
    const ways = { through: 0, direct: 0 };
    let goesOn = true;
    const take = async (response: Response, text: string): Promise<boolean> => {
      const answer = await response.json().catch(() => ({}));
      if (response.ok) answered.set(answer.s3_key, text);
      // What may be tried again is an answer as good; anything else is none.
      else if (response.status !== 503) throw new Error(`${response.status} ${JSON.stringify(answer)}`);
      return response.ok;
    };
    async function through(text: string): Promise<void> {
      if (await take(await upload(text), text)) ways.through++;
    }
    async function direct(text: string): Promise<void> {
      const sha256 = await sha256Of(bytes(text));
      const body = { sha256, size_bytes: text.length, content_type: "text/plain" };
      const begun = await (await ask("POST", "/v1/media/uploads", json(body))).json();
      if (begun.upload === undefined) return;
      const { "content-length": _, ...headers } = begun.upload.headers;
      const put = await fetch(begun.upload.url, { method: "PUT", headers, body: text }).catch(() => null);
      await put?.body?.cancel();
      // As clients do where the store is away: through the function then.
      if (!put?.ok) return await through(text);
      const verify = await ask("POST", `/v1/media/uploads/${sha256}/verify`, json(begun.verify.body));
      if (await take(verify, text)) ways.direct++;
    }
    const load = Array.from({ length: 6 }, async (_, worker) => {
      for (let n = 0; goesOn; n++) {
        const text = `${worker} ${n} ${"x".repeat((worker * 7919 + n * 104_729) % 40_000)}`;
        await (worker % 2 === 0 ? through(text) : direct(text));
      }
    });
    // What fails there is thrown where they are waited for.
    for (const one of load) one.catch(() => goesOn = false);
    const schedule = (async () => {
      while (goesOn) {
        await maintain();
        const seen = answered.size;
        await until(() => !goesOn || answered.size > seen + 20);
      }
    })();
    const more = async (count: number) => {
      const seen = answered.size;
      await until(() => !goesOn || answered.size >= seen + count);
    };
    try {
      await more(20);
      line.away();
      if (AWAY_SECONDS > 0) await new Promise((resolve) => setTimeout(resolve, AWAY_SECONDS * 1000));
      else await more(60);
      expect((await sql`select from eve.media_spool`).length).toBeGreaterThan(0);
      line.back();
      await more(20);
    } finally {
      line.back();
      goesOn = false;
      await Promise.all([...load, schedule]);
    }
    await until(async () => {
      await maintain();
      return (await sql`select from eve.media_spool`).length === 0;
    });
    for (const [key, text] of answered) {
      expect(await (await client.fetch(`${bucketUrl}/${key}`)).text()).toBe(text);
    }
    expect(ways.through).toBeGreaterThan(0);
    expect(ways.direct).toBeGreaterThan(0);
    // Who was promised room and did not come back holds it for a while; then the bucket and the counters are even.
    await moveClock(sql, 25 * 3_600_000);
    await maintain();
    expect((await listing()).length).toBe(answered.size);
    await expectEven();
  });

  test("a file that OpenAI's client sends in parts is read out of the bucket, part by part", async () => {
    const openai = new OpenAI({
      apiKey: stack.keys.secret,
      baseURL: `${stack.url}/functions/v1/llm-invoke/openai/v1`,
    });
    // More than there is room for in the database.
    const { id } = await openai.uploads.create({
      bytes: 150_000_000,
      filename: "large.jsonl",
      mime_type: "application/jsonl",
      purpose: "batch",
    });
    await openai.uploads.cancel(id);
    const parts = ["one\n", "two\n", "three"];
    const upload = await openai.uploads.create({
      bytes: 13,
      filename: "large.jsonl",
      mime_type: "application/jsonl",
      purpose: "batch",
    });
    const part_ids = [];
    for (const part of parts) {
      const data = await toFile(bytes(part), "part");
      part_ids.push((await openai.uploads.parts.create(upload.id, { data })).id);
    }
    const { file } = await openai.uploads.complete(upload.id, { part_ids });
    expect((await listing()).map(({ size }) => size).sort()).toEqual([4, 4, 5]);
    await expectEven();
    expect(await (await openai.files.content(file!.id)).text()).toBe(parts.join(""));
    await openai.files.delete(file!.id);
    expect(await listing()).toEqual([]);
  });

  test("a delete ends in the bucket", async () => {
    const { sha256 } = await (await upload("short-lived")).json();
    expect(await (await ask("DELETE", `/v1/media/${sha256}`)).json()).toMatchObject({ status: "deleted" });
    expect(await listing()).toEqual([]);
    await expectEven();
  });
});
