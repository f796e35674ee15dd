/** `eve storage` against an API and a store that are played here: what is sent where, and what is shown. */
import { createHash } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { eve } from "../../../cli/eve.ts";
import type { CommandDependencies } from "../../../cli/eve/command.ts";
import { connect } from "../../../cli/eve/connection.ts";
import { progressBar } from "../../../cli/eve/storage/progress_bar.ts";

const SECRET = "sb_secret_of_this_test";
const TEXT = new TextEncoder().encode("hello, storage\n".repeat(50_000));
const sha256Of = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const SHA256 = sha256Of(TEXT);

interface Seen {
  method: string;
  /** With the query. */
  path: string;
  headers: Headers;
  body: Uint8Array;
}
type Answer = (seen: Seen) => Response | Promise<Response>;

let seen: Seen[];
/** By `METHOD /path`. */
let answers: Record<string, Answer>;
let server: Deno.HttpServer<Deno.NetAddr>;
let url: string;
let folder: string;

beforeEach(async () => {
  seen = [];
  answers = {};
  folder = await Deno.makeTempDir();
  server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
    const { pathname, search } = new URL(request.url);
    const one = {
      method: request.method,
      path: pathname + search,
      headers: request.headers,
      body: new Uint8Array(await request.arrayBuffer()),
    };
    seen.push(one);
    const answer = answers[`${request.method} ${pathname.replace("/functions/v1/api", "")}`];
    return answer === undefined ? new Response("not played", { status: 599 }) : await answer(one);
  });
  url = `http://127.0.0.1:${server.addr.port}`;
});
afterEach(async () => {
  await server.shutdown();
  await Deno.remove(folder, { recursive: true });
});

async function run(args: string[], around: Partial<CommandDependencies> = {}) {
  const said: string[] = [];
  const complained: string[] = [];
  const shown: string[] = [];
  const code = await eve(args, {
    say: (text) => said.push(text),
    complain: (text) => complained.push(text),
    progress: (text) => shown.push(text),
    connect: () => connect(url, SECRET),
    ...around,
  });
  return { code, said: said.join("\n"), complained: complained.join("\n"), shown };
}

const bodyOf = ({ body }: Seen) => JSON.parse(new TextDecoder().decode(body));
const pathsOf = () => seen.map(({ method, path }) => `${method} ${path}`);

function object(fields: Record<string, unknown> = {}) {
  return {
    tenant_id: "default",
    sha256: SHA256,
    kind: "media",
    mime_type: "text/plain",
    size_bytes: TEXT.byteLength,
    stored_bytes: TEXT.byteLength,
    content_encoding: null,
    s3_key: `media/default/${SHA256.slice(0, 2)}/${SHA256}.txt`,
    stored_in: "s3",
    state: "verified",
    refs_count: 0,
    metadata: {},
    first_seen_at: "2026-11-22T10:00:00+00:00",
    last_seen_at: "2026-11-22T10:00:00+00:00",
    expires_at: null,
    missing_since: null,
    ...fields,
  };
}

const error = (status: number, code: string, message = "No.") => () =>
  Response.json({ error: { code, message, request_id: "r", retryable: false } }, { status });

async function file(name: string, content: Uint8Array = TEXT): Promise<string> {
  await Deno.writeFile(`${folder}/${name}`, content);
  return `${folder}/${name}`;
}

describe("upload", () => {
  const announces = () => {
    answers["POST /v1/media/uploads"] = () =>
      Response.json({
        status: "upload",
        object: object({ state: "reserved" }),
        upload: {
          method: "PUT",
          url: `${url}/bucket/key?X-Amz-Signature=abc`,
          headers: { "content-type": "text/plain", "if-none-match": "*", "x-amz-content-sha256": "h" },
        },
        verify: {
          method: "POST",
          url: "http://127.0.0.1:1/elsewhere",
          body: { tenant_id: "default", key: "a/b.txt" },
        },
      });
    answers["PUT /bucket/key"] = () => new Response();
    answers[`POST /v1/media/uploads/${SHA256}/verify`] = () => Response.json(object());
  };

  test("a large file goes in the parts that have not arrived, and the bar begins with those that have", async () => {
    announces();
    const part = (part_number: number, offset: number, size_bytes: number) => ({
      part_number,
      offset,
      size_bytes,
      method: "PUT",
      url: `${url}/bucket/key?partNumber=${part_number}`,
      headers: { "content-length": String(size_bytes) },
    });
    const half = TEXT.byteLength / 2;
    const parts = [part(2, half, half - 10), part(3, TEXT.byteLength - 10, 10)];
    answers["POST /v1/media/uploads"] = () =>
      Response.json({
        status: "upload",
        object: object({ state: "reserved" }),
        upload: { parts },
        verify: { body: {} },
      });
    const { code, shown } = await run(["storage", "upload", await file("a.txt")]);
    expect(code).toBe(0);
    const puts = seen.filter(({ method }) => method === "PUT");
    expect(puts.map(({ path, headers }) => [path, headers.get("content-length")])).toEqual([
      ["/bucket/key?partNumber=2", String(half - 10)],
      ["/bucket/key?partNumber=3", "10"],
    ]);
    expect(puts.map(({ body }) => sha256Of(body))).toEqual([
      sha256Of(TEXT.slice(half, -10)),
      sha256Of(TEXT.slice(-10)),
    ]);
    const percents = shown.filter((line) => line.startsWith("Sending")).map((line) =>
      Number(/(\d+)%/.exec(line)![1])
    );
    expect(percents[0]).toBeGreaterThanOrEqual(50);
    expect(percents.at(-1)).toBe(100);
    expect(pathsOf().at(-1)).toMatch(/verify$/);
  });

  test("a part that the store refuses: it is said that the others need not be sent again", async () => {
    announces();
    const part = {
      part_number: 1,
      offset: 0,
      size_bytes: 10,
      method: "PUT",
      url: `${url}/bucket/key`,
      headers: {},
    };
    answers["POST /v1/media/uploads"] = () =>
      Response.json({ status: "upload", object: object(), upload: { parts: [part] }, verify: { body: {} } });
    answers["PUT /bucket/key"] = () => new Response("<Error><Code>SlowDown</Code></Error>", { status: 503 });
    const { code, complained } = await run(["storage", "upload", await file("a.txt")]);
    expect(code).toBe(1);
    expect(complained).toContain("503 (SlowDown). Try again: parts that have arrived are not sent again.");
  });

  test("announces the file, sends it with the headers answered and its length, and verifies", async () => {
    announces();
    const { code, said, shown } = await run(
      ["storage", "upload", await file("a.txt"), "--key", "a/b.txt", "--metadata", '{"n":1}', "--json"],
    );
    expect([code, JSON.parse(said)]).toEqual([0, { ...object(), key: "a/b.txt", created: true }]);
    const [announced, put, verified] = seen as [Seen, Seen, Seen];
    expect(bodyOf(announced)).toEqual({
      sha256: SHA256,
      size_bytes: TEXT.byteLength,
      content_type: "text/plain",
      kind: "media",
      key: "a/b.txt",
      metadata: { n: 1 },
    });
    expect(sha256Of(put.body)).toBe(SHA256);
    // A store takes no body of unknown length.
    expect(Object.fromEntries(put.headers)).toMatchObject({
      "content-length": String(TEXT.byteLength),
      "content-type": "text/plain",
      "if-none-match": "*",
      "x-amz-content-sha256": "h",
    });
    expect(put.headers.get("transfer-encoding")).toBeNull();
    expect(bodyOf(verified)).toEqual({ tenant_id: "default", key: "a/b.txt" });
    expect(shown.some((line) => /^Reading a\.txt .*100% of 750 kB$/.test(line)), shown.join("\n")).toBe(true);
    expect(shown.some((line) => /^Sending a\.txt .*100% of 750 kB$/.test(line)), shown.join("\n")).toBe(true);
    expect(shown.at(-1)).toBe("");
  });

  test("the key goes to the project alone: neither to the store nor to where an answer points", async () => {
    announces();
    await run(["storage", "upload", await file("a.txt")]);
    expect(seen.map(({ path, headers }) => [path, headers.get("apikey")])).toEqual([
      ["/functions/v1/api/v1/media/uploads", SECRET],
      ["/bucket/key?X-Amz-Signature=abc", null],
      [`/functions/v1/api/v1/media/uploads/${SHA256}/verify`, SECRET],
    ]);
  });

  test("what is there already is not sent", async () => {
    answers["POST /v1/media/uploads"] = () => Response.json({ status: "present", object: object() });
    const { code, said } = await run(["storage", "upload", await file("a.txt")]);
    expect([code, said]).toEqual([0, expect.stringContaining("a.txt was there already")]);
    expect(seen).toHaveLength(1);
  });

  test("what an upload that died has left in the store is verified", async () => {
    announces();
    answers["PUT /bucket/key"] = () => new Response(null, { status: 412 });
    expect((await run(["storage", "upload", await file("a.txt")])).code).toBe(0);
    expect(pathsOf().at(-1)).toMatch(/verify$/);
  });

  test("a store that does not take it is told with its code, and nothing is verified", async () => {
    announces();
    answers["PUT /bucket/key"] = () =>
      new Response("<Error><Code>AccessDenied</Code></Error>", { status: 403 });
    const { code, complained } = await run(["storage", "upload", await file("a.txt")]);
    expect([code, complained]).toEqual([1, expect.stringMatching(/answered 403 \(AccessDenied\)/)]);
    expect(complained).not.toContain("X-Amz-Signature");
    expect(pathsOf().some((path) => path.includes("verify"))).toBe(false);
  });

  test.each([["busy", 503], ["away", null]])(
    "a store that is %s: the file goes through the function, which keeps it",
    async (_, status) => {
      announces();
      if (status !== null) answers["PUT /bucket/key"] = () => new Response("<Error/>", { status });
      else {
        const announced = answers["POST /v1/media/uploads"]!;
        answers["POST /v1/media/uploads"] = async (asked) => {
          const body = await (await announced(asked)).json();
          // Nobody listens there.
          body.upload.url = "http://127.0.0.1:1/bucket/key?X-Amz-Signature=abc";
          return Response.json(body);
        };
      }
      answers["POST /v1/media"] = () =>
        Response.json({ ...object({ stored_in: "postgres" }), created: true, url: "http://x/" }, {
          status: 201,
        });
      const { code, said, shown } = await run(
        ["storage", "upload", await file("a.txt"), "--key", "a/b.txt", "--json"],
      );
      expect([code, JSON.parse(said)]).toMatchObject([0, { stored_in: "postgres", created: true }]);
      expect(pathsOf().at(-1)).toBe("POST /functions/v1/api/v1/media?kind=media&key=a%2Fb.txt");
      expect(sha256Of(seen.at(-1)!.body)).toBe(SHA256);
      expect(shown.join("\n")).toContain("Sending it through the function.");
      expect(shown.join("\n")).not.toContain("X-Amz-Signature");
    },
  );

  test("a store that is away and a file too large for the function: the store is named", async () => {
    announces();
    answers["PUT /bucket/key"] = () => new Response("<Error><Code>SlowDown</Code></Error>", { status: 503 });
    answers["POST /v1/media"] = error(413, "body_too_large", "Too large.");
    const { code, complained } = await run(["storage", "upload", await file("a.txt")]);
    expect([code, complained]).toEqual([1, expect.stringMatching(/answered 503 \(SlowDown\)/)]);
  });

  test("JSON and HTML, which are stored packed, go through the function", async () => {
    answers["POST /v1/media"] = () =>
      Response.json({ ...object(), created: true, url: "http://127.0.0.1:1/x?signature=s" }, { status: 201 });
    const path = await file("a.json", new TextEncoder().encode("{}"));
    const { code, said } = await run(["storage", "upload", path, "--tenant-id", "acme", "--json"]);
    expect([code, JSON.parse(said).created]).toEqual([0, true]);
    expect(said).not.toContain("signature");
    expect(pathsOf()).toEqual(["POST /functions/v1/api/v1/media?tenant_id=acme&kind=media"]);
    expect(seen[0]!.headers.get("content-type")).toBe("application/json");
    expect(seen[0]!.headers.get("apikey")).toBe(SECRET);
  });

  test("JSON of more than the function takes goes straight to the store", async () => {
    answers["POST /v1/media"] = error(413, "body_too_large", "Too large.");
    announces();
    const path = await file("a.json");
    const { code, said } = await run(["storage", "upload", path, "--json"]);
    expect([code, JSON.parse(said).created]).toEqual([0, true]);
    expect(pathsOf().map((one) => one.split("?")[0])).toEqual([
      "POST /functions/v1/api/v1/media",
      "POST /functions/v1/api/v1/media/uploads",
      "PUT /bucket/key",
      expect.stringContaining("/verify"),
    ]);
  });

  test("a refusal for the quota says where to look", async () => {
    answers["POST /v1/media/uploads"] = error(507, "storage_quota_exceeded", "No room.");
    const { code, complained } = await run(["storage", "upload", await file("a.txt")]);
    expect([code, complained]).toEqual([
      1,
      "storage_quota_exceeded: No room. See `storage quota`, and `storage cleanup`.",
    ]);
  });

  test("Ctrl-C in the middle ends it with 130, and nothing is verified", async () => {
    announces();
    const interrupted = new AbortController();
    const over = Promise.withResolvers<Response>();
    answers["PUT /bucket/key"] = () => {
      interrupted.abort();
      return over.promise;
    };
    const { code } = await run(["storage", "upload", await file("a.txt")], { signal: interrupted.signal });
    over.resolve(new Response());
    expect(code).toBe(130);
    expect(pathsOf().some((path) => path.includes("verify"))).toBe(false);
  });

  test("an empty file has a length, too", async () => {
    announces();
    const empty = sha256Of(new Uint8Array());
    answers[`POST /v1/media/uploads/${empty}/verify`] = () => Response.json(object({ sha256: empty }));
    expect((await run(["storage", "upload", await file("e.txt", new Uint8Array())])).code).toBe(0);
    expect(seen[1]!.headers.get("content-length")).toBe("0");
  });

  test.each<[string[], number, RegExp]>([
    [["nowhere.png"], 1, /There is no file nowhere\.png/],
    [["."], 1, /\. is not a file/],
    [["x.txt", "--metadata", "[1]"], 2, /--metadata must be a JSON object/],
    [["x.txt", "--kind", "vision"], 2, /--kind must be media or crawl/],
  ])("%j is told what is wrong", async (args, code, message) => {
    expect(await run(["storage", "upload", ...args])).toMatchObject({
      code,
      complained: expect.stringMatching(message),
    });
    expect(seen).toEqual([]);
  });
});

describe("download", () => {
  const answersFile = (content: Uint8Array<ArrayBuffer>, key = "chats/1/images/a b.txt") => {
    const at = key.split("/").map(encodeURIComponent).join("/");
    answers[`GET /v1/media/${at}`] = () => Response.json(object({ key }));
    answers[`POST /v1/media/${at}/url`] = () =>
      Response.json({ url: `${url}/bucket/key?sig=1`, expires_at: "2026-11-22T10:05:00.000Z" });
    answers["GET /bucket/key"] = () => new Response(content);
  };

  test("a file comes by its key, is held against its hash, and gets the key's name", async () => {
    answersFile(TEXT);
    const output = `${folder}/out.txt`;
    const { code, said, shown } = await run(
      ["storage", "download", "chats/1/images/a b.txt", "--output", output, "--tenant-id", "acme", "--json"],
    );
    expect(code).toBe(0);
    expect(JSON.parse(said)).toEqual({
      path: output,
      sha256: SHA256,
      size_bytes: TEXT.byteLength,
      mime_type: "text/plain",
    });
    expect(sha256Of(await Deno.readFile(output))).toBe(SHA256);
    expect(shown.some((line) => /^Fetching a b\.txt .*100% of 750 kB$/.test(line)), shown.join("\n")).toBe(
      true,
    );
    expect(seen.map(({ path, headers }) => [path, headers.get("apikey")])).toEqual([
      ["/functions/v1/api/v1/media/chats/1/images/a%20b.txt?tenant_id=acme&info=true", SECRET],
      ["/functions/v1/api/v1/media/chats/1/images/a%20b.txt/url?tenant_id=acme", SECRET],
      ["/bucket/key?sig=1", null],
    ]);
  });

  test("what is not the file leaves nothing behind, and not what was there before", async () => {
    answersFile(TEXT.slice(1));
    const output = await file("out.txt", new TextEncoder().encode("before"));
    const refused = await run(["storage", "download", "chats/1/images/a b.txt", "--output", output]);
    expect([refused.code, refused.complained]).toEqual([1, expect.stringContaining("--force")]);
    const { code, complained } = await run(
      ["storage", "download", "chats/1/images/a b.txt", "--output", output, "--force"],
    );
    expect([code, complained]).toEqual([1, expect.stringContaining("not the file with the hash")]);
    expect(await Deno.readTextFile(output)).toBe("before");
    expect([...Deno.readDirSync(folder)].map(({ name }) => name)).toEqual(["out.txt"]);
  });

  test("Ctrl-C in the middle ends it with 130, and leaves nothing behind", async () => {
    answersFile(TEXT);
    const interrupted = new AbortController();
    // A part of it comes, and no more.
    answers["GET /bucket/key"] = () =>
      new Response(new ReadableStream({ start: (stream) => stream.enqueue(TEXT.slice(0, 100_000)) }));
    const { code } = await run(
      ["storage", "download", "chats/1/images/a b.txt", "--output", `${folder}/out.txt`],
      {
        signal: interrupted.signal,
        progress: (text) => text.startsWith("Fetching") && interrupted.abort(),
      },
    );
    expect(code).toBe(130);
    expect([...Deno.readDirSync(folder)]).toEqual([]);
  });
});

describe("looking", () => {
  const counter = { limit_bytes: 2e9, used_bytes: 5e8, reserved_bytes: 0, free_bytes: 1.5e9, objects: 3 };
  const kinds = { media: counter, vision: counter, crawl: counter };

  test("quota shows each limit with a bar", async () => {
    const quota = {
      tenant_id: "acme",
      total: counter,
      tenant: counter,
      kinds,
      spool: counter,
      emergency_threshold_bytes: 14e9,
    };
    answers["GET /v1/storage/quota"] = () => Response.json(quota);
    const { code, said } = await run(["storage", "quota", "--tenant-id", "acme"]);
    expect(code).toBe(0);
    expect(said).toMatch(/tenant acme +500 MB +2\.0 GB +█████ +1\.5 GB +3/);
    expect(said).toContain("14.0 GB");
    expect(pathsOf()).toEqual(["GET /functions/v1/api/v1/storage/quota?tenant_id=acme"]);
    expect(JSON.parse((await run(["storage", "quota", "--json"])).said)).toEqual(quota);
  });

  test("usage shows what waits, and a variable that says otherwise than the row", async () => {
    answers["GET /v1/storage/stats"] = () =>
      Response.json({
        total: counter,
        kinds,
        spool: counter,
        emergency_threshold_bytes: 14e9,
        tenants: [{ tenant_id: "acme", ...counter }],
        limits: [{ name: "total", limit_bytes: 15e9, variable: "S3_TOTAL_LIMIT_GB", env_bytes: 20e9 }],
        unfinished: 0,
        unproven: 2,
        deleting: 0,
        spooled: { objects: 1, oldest_at: "2026-11-22T10:00:00+00:00", tries: 0 },
      });
    const { said } = await run(["storage", "usage"]);
    expect(said).toMatch(/not read again yet +2/);
    expect(said).toMatch(/waiting for S3 +1 file since 2026-11-22 10:00 UTC/);
    expect(said).not.toContain("being deleted");
    expect(said).toMatch(/S3_TOTAL_LIMIT_GB says 20\.0 GB .* the row says 15\.0 GB/);
  });

  test("list goes on by cursor until it has as many as were asked for", async () => {
    const keys = Array.from({ length: 1_500 }, (_, number) => `k/${number}`);
    answers["GET /v1/media"] = ({ path }) => {
      const query = new URL(path, url).searchParams;
      const from = Number(query.get("cursor") ?? 0);
      const until = from + Number(query.get("limit"));
      return Response.json({
        tenant_id: "default",
        files: keys.slice(from, until).map((key) => object({ key })),
        next_cursor: until < keys.length ? String(until) : null,
      });
    };
    const listed = async (...args: string[]) =>
      JSON.parse((await run(["storage", "list", "--prefix", "k/", ...args, "--json"])).said);
    const some = await listed("--limit", "1200");
    expect([some.files.length, some.files.at(-1).key, some.next_cursor]).toEqual([1_200, "k/1199", "1200"]);
    expect(pathsOf().map((path) => /limit=\d+/.exec(path)![0])).toEqual(["limit=1000", "limit=200"]);
    const rest = await listed("--limit", "5000", "--cursor", "1200");
    expect([rest.files.length, rest.next_cursor]).toEqual([300, null]);
    expect((await run(["storage", "list", "--limit", "2"])).said).toMatch(/There are more: --cursor 2/);
    expect((await run(["storage", "list", "--limit", "0"])).code).toBe(2);
  });

  test("check-key tells a file, ends with 1 without one, and no other error passes for that", async () => {
    answers["GET /v1/media/a/b.txt"] = () => Response.json(object({ key: "a/b.txt" }));
    const found = await run(["storage", "check-key", "a/b.txt", "--json"]);
    expect([found.code, JSON.parse(found.said)]).toMatchObject([0, {
      exists: true,
      file: { key: "a/b.txt" },
    }]);
    answers["GET /v1/media/none"] = error(404, "object_not_found");
    const none = await run(["storage", "check-key", "none", "--json"]);
    expect([none.code, JSON.parse(none.said)]).toEqual([1, { key: "none", exists: false, file: null }]);
    answers["GET /v1/media/none"] = error(404, "unknown_tenant", "There is no such tenant.");
    expect(await run(["storage", "check-key", "none"])).toMatchObject({
      code: 1,
      complained: "unknown_tenant: There is no such tenant.",
    });
  });

  test("url answers an address for as long as was asked for", async () => {
    answers["POST /v1/media/a/b.txt/url"] = () =>
      Response.json({ url: "https://s3.example/x?sig=1", expires_at: "2026-11-22T10:05:00.000Z" });
    const { said } = await run(["storage", "url", "a/b.txt", "--expires-in", "10m"]);
    expect(said).toMatch(/^https:\/\/s3\.example\/x\?sig=1\n/);
    expect(bodyOf(seen[0]!)).toEqual({ expires_in: 600 });
    expect((await run(["storage", "url", "a/b.txt", "--expires-in", "8d"])).code).toBe(2);
  });
});

describe("cleanup", () => {
  const report = (fields: Record<string, unknown>) => ({
    status: "done",
    dry_run: false,
    used_bytes_before: 12e9,
    used_bytes_after: 12e9,
    target_bytes: 10e9,
    freed_bytes: 0,
    deleted_objects: 0,
    steps: [],
    ...fields,
  });
  const crawl = (objects: number, bytes: number) => ({ what: "crawl", min_age_days: 3, objects, bytes });

  test("a dry run deletes nothing", async () => {
    answers["POST /v1/storage/cleanup"] = () =>
      Response.json(
        report({ dry_run: true, freed_bytes: 2e9, deleted_objects: 40, steps: [crawl(40, 2e9)] }),
      );
    const { code, said } = await run(["storage", "cleanup", "auto", "--target-gb", "10", "--dry-run"]);
    expect([code, said]).toEqual([0, expect.stringContaining("40 files would go, 2.0 GB")]);
    expect(seen.map(bodyOf)).toEqual([{ what: "auto", force: true, target_gb: 10, dry_run: true }]);
  });

  test("goes on while there is more, with a bar, and sums up", async () => {
    const reports = [
      report({ dry_run: true, freed_bytes: 2e9, deleted_objects: 40, steps: [crawl(40, 2e9)] }),
      report({
        status: "more",
        freed_bytes: 5e8,
        deleted_objects: 10,
        used_bytes_after: 11.5e9,
        steps: [crawl(10, 5e8)],
      }),
      report({
        used_bytes_before: 11.5e9,
        used_bytes_after: 10e9,
        freed_bytes: 15e8,
        deleted_objects: 30,
        steps: [crawl(30, 15e8)],
      }),
    ];
    answers["POST /v1/storage/cleanup"] = () => Response.json(reports.shift());
    const { code, said, shown } = await run(["storage", "cleanup", "crawl", "--max-age-days", "3", "--json"]);
    expect(code).toBe(0);
    expect(JSON.parse(said)).toEqual(report({
      used_bytes_after: 10e9,
      freed_bytes: 2e9,
      deleted_objects: 40,
      steps: [crawl(40, 2e9)],
    }));
    expect(seen.map((one) => bodyOf(one).dry_run)).toEqual([true, false, false]);
    expect(bodyOf(seen[1]!)).toEqual({ what: "crawl", force: false, max_age_days: 3, dry_run: false });
    expect(shown.find((line) => line.includes("500 MB"))).toMatch(/^Deleting █████ +500 MB of 2\.0 GB$/);
  });

  test("what could not free enough ends with 1", async () => {
    answers["POST /v1/storage/cleanup"] = () => Response.json(report({ status: "not_enough" }));
    const { code, said } = await run(["storage", "cleanup", "auto", "--target-gb", "1"]);
    expect([code, said]).toEqual([1, expect.stringContaining("10.0 GB was the target")]);
  });

  test("below the threshold and without a target there is nothing to do", async () => {
    answers["POST /v1/storage/cleanup"] = () => Response.json(report({ status: "not_needed" }));
    const { code, said } = await run(["storage", "cleanup", "auto"]);
    expect([code, said]).toEqual([0, expect.stringContaining("--target-gb")]);
    expect(bodyOf(seen[0]!).force).toBe(false);
  });

  test.each([[["everything"], /one of auto, crawl/], [
    ["auto", "--target-gb", "ten"],
    /--target-gb must be/,
  ]])(
    "%j makes no sense",
    async (args, message) => {
      expect(await run(["storage", "cleanup", ...args])).toMatchObject({
        code: 2,
        complained: expect.stringMatching(message),
      });
    },
  );
});

describe("reconcile", () => {
  const answersRun = (details: Record<string, unknown>) =>
    answers["POST /functions/v1/maintenance/media_reconcile"] = () =>
      Response.json({
        status: "succeeded",
        operation: "media_reconcile",
        count: 0,
        tables: [],
        details,
        more: false,
      });

  test("ends with 1 when files are missing, and with 0 when objects are unknown", async () => {
    answersRun({ listed: 10, unknown: 1, missing: 0, resized: 0 });
    expect((await run(["storage", "reconcile"])).code).toBe(0);
    answersRun({ listed: 9, unknown: 0, missing: 1, resized: 0, named: { missing: ["media/a"] } });
    const { code, said } = await run(["storage", "reconcile", "--json"]);
    expect([code, JSON.parse(said).details.named.missing]).toEqual([1, ["media/a"]]);
  });
});

test("a function that is not deployed is told as that", async () => {
  answers["GET /v1/storage/quota"] = () =>
    Response.json({ code: "NOT_FOUND", message: "Requested function was not found" }, { status: 404 });
  expect(await run(["storage", "quota"])).toMatchObject({
    code: 1,
    complained: "The function api is not deployed: run npm run deploy.",
  });
});

test("a bar is written again only when it would look otherwise, and is full at the end alone", () => {
  const shown: string[] = [];
  const show = progressBar(
    (text) => shown.push(text),
    "Sending a file with a name that is far too long",
    1_000_000,
  );
  for (let done = 1; done < 1_000_000; done += 100) show(done);
  expect(shown).toHaveLength(100);
  expect(shown.at(-1)).toMatch(/99% of 1\.0 MB$/);
  show(1_000_000);
  expect(shown.at(-1)).toMatch(/█{20} 100% of 1\.0 MB$/);
  expect(Math.max(...shown.map((line) => line.length))).toBeLessThanOrEqual(78);
});
