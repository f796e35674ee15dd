/** Files, whole and in parts, batches and responses in the background, by OpenAI's own client, against a whole stack with its worker. */
import OpenAI, { NotFoundError, toFile } from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { md5Of } from "../../shared/media/hash.ts";
import { until } from "../harness/patience.ts";
import { closeTestGateway, type OpenedGateway, openTestGateway } from "./opened_gateway.ts";
import { EMBEDDING, GEMMA } from "./test_gateway.ts";

let gateway: OpenedGateway;
let client: OpenAI;
beforeAll(async () => {
  gateway = await openTestGateway();
  client = clientOf(gateway.key);
  await gateway.sql`update public.google_ai_model_limits set rpm = null, tpm = null, rpd = null`;
});
afterAll(() => closeTestGateway(gateway));

const clientOf = (apiKey: string) =>
  new OpenAI({ apiKey, baseURL: `${gateway.baseUrl}/openai/v1`, maxRetries: 0 });

type Endpoint = OpenAI.BatchCreateParams["endpoint"];
interface Line {
  custom_id: string;
  body: Record<string, unknown>;
}

const chat = (n: number, model = GEMMA): Line => ({
  custom_id: `line-${n}`,
  body: { model, messages: [{ role: "user", content: `Number ${n}` }] },
});
const fileOf = async (lines: (Line | string)[], url = "/v1/chat/completions", by = client) =>
  await by.files.create({
    purpose: "batch",
    file: await toFile(
      new TextEncoder().encode(
        lines.map((line) =>
          typeof line === "string" ? line : JSON.stringify({ ...line, method: "POST", url })
        ).join("\n"),
      ),
      "lines.jsonl",
    ),
  });
const batchOf = async (
  lines: (Line | string)[],
  { endpoint = "/v1/chat/completions" as Endpoint, by = client } = {},
) =>
  await by.batches.create({
    input_file_id: (await fileOf(lines, endpoint, by)).id,
    endpoint,
    completion_window: "24h",
    metadata: { of: "a test" },
  });

/** Calls the worker as the schedule does, which is off here: when something is due. */
async function work(): Promise<void> {
  const [row] = await gateway.sql`select public.eve_jobs_due() as is_due`;
  if (row!.is_due) await (await gateway.stack.invoke("worker", {})).body?.cancel();
}
async function ended(id: string, by = client): Promise<OpenAI.Batch> {
  const goesOn = ["validating", "in_progress", "finalizing", "cancelling"];
  await until(async () => {
    await work();
    return !goesOn.includes((await by.batches.retrieve(id)).status);
  }, "the batch goes on");
  return await by.batches.retrieve(id);
}
// deno-lint-ignore no-explicit-any -- JSON whose fields the tests look at.
async function linesOf(id: string | null | undefined, by = client): Promise<any[]> {
  const text = await (await by.files.content(id!)).text();
  return text.trim().split("\n").map((line) => JSON.parse(line));
}

describe("[openai.files] files", () => {
  test("are kept for the tenant, listed, read and deleted", async () => {
    const file = await fileOf([chat(1), chat(2)]);
    expect(file).toMatchObject({
      id: expect.stringMatching(/^file-[0-9a-f]{32}$/),
      object: "file",
      purpose: "batch",
      filename: "lines.jsonl",
      bytes: expect.any(Number),
      created_at: expect.any(Number),
    });
    expect(await client.files.retrieve(file.id)).toEqual(file);
    const other = await fileOf([chat(3)]);
    const listed = [];
    for await (const one of client.files.list({ limit: 1, purpose: "batch" })) listed.push(one.id);
    expect(listed).toEqual([other.id, file.id]);
    expect(await linesOf(file.id)).toMatchObject([{ custom_id: "line-1" }, { custom_id: "line-2" }]);
    // It counts towards what the tenant may keep.
    const objects = () => gateway.sql`select size_bytes::integer, tenant_id from public.media_objects`;
    expect(await objects()).toContainEqual({ size_bytes: file.bytes, tenant_id: "default" });
    expect(await client.files.delete(file.id)).toEqual({ id: file.id, object: "file", deleted: true });
    await expect(client.files.retrieve(file.id)).rejects.toThrow(NotFoundError);
    await client.files.delete(other.id);
    expect(await objects()).toHaveLength(0);
  });

  test("of the same content are two, and one may go", async () => {
    const [one, two] = [await fileOf([chat(1)]), await fileOf([chat(1)])];
    await client.files.delete(one.id);
    expect(await linesOf(two.id)).toHaveLength(1);
    await client.files.delete(two.id);
  });

  test("for anything but batches and prompts are refused, as are empty ones", async () => {
    const wrong = async (file: Uint8Array, purpose: OpenAI.FilePurpose) =>
      await client.files.create({ purpose, file: await toFile(file, "x.jsonl") });
    await expect(wrong(new Uint8Array([1]), "fine-tune")).rejects.toMatchObject({
      status: 400,
      param: "purpose",
    });
    await expect(wrong(new Uint8Array(), "batch")).rejects.toMatchObject({ status: 400, param: "file" });
    await expect(client.files.retrieve("file-abc")).rejects.toThrow(NotFoundError);
    await expect(client.files.list({ after: "nothing" })).rejects.toThrow(NotFoundError);
    const form = await gateway.fetch("/openai/v1/files", {});
    expect([form.status, await form.text()]).toEqual([400, expect.stringContaining("multipart")]);
  });
});

describe("[openai.uploads] files in parts", () => {
  const announce = (bytes: number, by = client) =>
    by.uploads.create({ bytes, filename: "lines.jsonl", mime_type: "application/jsonl", purpose: "batch" });
  const send = async (id: string, bytes: Uint8Array<ArrayBuffer>, by = client) =>
    await by.uploads.parts.create(id, { data: await toFile(bytes, "part") });
  const objects = () => gateway.sql`select size_bytes::integer as bytes from public.media_objects order by 1`;
  const text = Array.from(
    { length: 30 },
    (_, n) => JSON.stringify({ ...chat(n), method: "POST", url: "/v1/chat/completions" }),
  ).join("\n");
  const bytes = new TextEncoder().encode(text);
  const md5 = md5Of(bytes).toHex();
  /** In the middle of lines. */
  const pieces = [bytes.slice(0, 1_000), bytes.slice(1_000, 1_001), bytes.slice(1_001)];

  test("are put together in the order that is said, held to their hash, and read by a batch", async () => {
    const upload = await announce(bytes.length);
    expect(upload).toEqual(expect.objectContaining({
      id: expect.stringMatching(/^upload_[0-9a-f]{32}$/),
      object: "upload",
      status: "pending",
      bytes: bytes.length,
      filename: "lines.jsonl",
      purpose: "batch",
      expires_at: upload.created_at + 3_600,
    }));
    const [last, first, middle] = await Promise.all([2, 0, 1].map((n) => send(upload.id, pieces[n]!)));
    expect(first).toEqual({
      id: expect.stringMatching(/^part_[0-9a-f]{32}$/),
      object: "upload.part",
      created_at: expect.any(Number),
      upload_id: upload.id,
    });
    const needless = await send(upload.id, new Uint8Array([1, 2, 3]));
    const ids = [first!.id, middle!.id, last!.id];
    const complete = (part_ids: string[], more: { md5?: string } = {}) =>
      client.uploads.complete(upload.id, { part_ids, ...more });
    await expect(complete([...ids].reverse(), { md5 })).rejects.toMatchObject({
      status: 400,
      code: "content_mismatch",
    });
    await expect(complete([...ids, needless.id])).rejects.toMatchObject({ status: 400, param: "part_ids" });
    const done = await complete(ids, { md5: md5.toUpperCase() });
    expect(done).toMatchObject({
      id: upload.id,
      status: "completed",
      file: { object: "file", purpose: "batch", filename: "lines.jsonl", bytes: bytes.length },
    });
    const file = done.file!;
    expect(await client.files.retrieve(file.id)).toEqual(file);
    expect(await (await client.files.content(file.id)).text()).toBe(text);
    // What the file does not use is not kept.
    expect((await objects()).map(({ bytes }) => bytes)).toEqual(
      pieces.map(({ length }) => length).sort((a, b) => a - b),
    );
    const batch = await client.batches.create({
      input_file_id: file.id,
      endpoint: "/v1/chat/completions",
      completion_window: "24h",
    });
    expect((await ended(batch.id)).request_counts).toEqual({ total: 30, completed: 30, failed: 0 });
    await client.files.delete(file.id);
    expect(await objects()).toEqual([]);
  });

  test("that are given up leave nothing, and take nothing more", async () => {
    const { id } = await announce(2_000);
    const part = await send(id, pieces[0]!);
    expect(await client.uploads.cancel(id)).toMatchObject({ id, status: "cancelled" });
    expect(await objects()).toEqual([]);
    await expect(send(id, pieces[1]!)).rejects.toMatchObject({ status: 400 });
    await expect(client.uploads.complete(id, { part_ids: [part.id] })).rejects.toMatchObject({ status: 400 });
    expect(await objects()).toEqual([]);
  });

  test("are their consumer's alone", async () => {
    const added = await gateway.stack.invoke("admin/consumers/add", { name: "sender", kind: "service" });
    const other = clientOf((await added.json()).secret);
    const { id } = await announce(1_000);
    const part = await send(id, pieces[0]!);
    await expect(send(id, pieces[0]!, other)).rejects.toThrow(NotFoundError);
    await expect(other.uploads.complete(id, { part_ids: [part.id] })).rejects.toThrow(NotFoundError);
    await expect(other.uploads.cancel(id)).rejects.toThrow(NotFoundError);
    await client.uploads.cancel(id);
  });

  test("are refused before they are sent where there is no room, and in larger parts than a body may be", async () => {
    // Without S3 they are kept in the database, where there is room for so many bytes.
    await expect(announce(150_000_000)).rejects.toMatchObject({
      status: 507,
      message: expect.stringMatching(/"spool".*S3/),
    });
    await expect(announce(200_000_001)).rejects.toMatchObject({ status: 400, param: "bytes" });
    const { id } = await announce(12_000_000);
    await expect(send(id, new Uint8Array(11_000_000))).rejects.toMatchObject({
      status: 413,
      message: expect.stringContaining("smaller"),
    });
    await expect(send(id, new Uint8Array())).rejects.toMatchObject({ status: 400, param: "data" });
    await client.uploads.cancel(id);
  });
});

describe("[openai.batches] batches", () => {
  test("are validated, run and read, line by line by their custom_id", async () => {
    const lines = Array.from({ length: 12 }, (_, n) => chat(n));
    const batch = await batchOf([...lines, chat(99, "nobody-knows-it")]);
    expect(batch).toMatchObject({
      id: expect.stringMatching(/^batch_[0-9a-f]{32}$/),
      object: "batch",
      status: "validating",
      endpoint: "/v1/chat/completions",
      completion_window: "24h",
      metadata: { of: "a test" },
      request_counts: { total: 0, completed: 0, failed: 0 },
      output_file_id: null,
    });
    const done = await ended(batch.id);
    expect(done).toMatchObject({
      status: "completed",
      request_counts: { total: 13, completed: 12, failed: 1 },
      in_progress_at: expect.any(Number),
      completed_at: expect.any(Number),
      errors: null,
    });
    const answers = await linesOf(done.output_file_id);
    expect(answers.map(({ custom_id }) => custom_id)).toEqual(lines.map(({ custom_id }) => custom_id));
    for (const { response, error } of answers) {
      expect(error).toBeNull();
      expect(response).toMatchObject({ status_code: 200, body: { object: "chat.completion", model: GEMMA } });
      expect(response.body.choices[0].message.content).not.toBe("");
    }
    expect(await linesOf(done.error_file_id)).toMatchObject([{
      custom_id: "line-99",
      response: { status_code: 404, body: { error: { code: "model_not_found" } } },
    }]);
    const output = await client.files.retrieve(done.output_file_id!);
    expect(output).toMatchObject({ purpose: "batch_output", bytes: expect.any(Number) });
    expect((await (await client.files.content(output.id)).arrayBuffer()).byteLength).toBe(output.bytes);
    const listed = [];
    for await (const one of client.batches.list({ limit: 1 })) listed.push(one.id);
    expect(listed.slice(0, 1)).toEqual([batch.id]);
    // In the books they are batch, and of OpenAI's endpoint.
    expect(await gateway.sql`select distinct class, endpoint from eve.requests where state = 'succeeded'`)
      .toEqual([{ class: "batch", endpoint: "openai" }]);
    await client.files.delete(output.id);
    await expect(client.files.content(output.id)).rejects.toThrow(NotFoundError);
  });

  test("ask for embeddings and responses, too", async () => {
    const embeddings = await batchOf(
      [{ custom_id: "e", body: { model: EMBEDDING, input: "A text" } }],
      { endpoint: "/v1/embeddings" },
    );
    const responses = await batchOf(
      [{ custom_id: "r", body: { model: GEMMA, input: "A question" } }],
      { endpoint: "/v1/responses" },
    );
    const [first] = await linesOf((await ended(embeddings.id)).output_file_id);
    expect(first).toMatchObject({ custom_id: "e", response: { body: { object: "list" } } });
    const [second] = await linesOf((await ended(responses.id)).output_file_id);
    expect(second).toMatchObject({
      custom_id: "r",
      response: { body: { object: "response", status: "completed" } },
    });
  });

  test("with lines that cannot be used fail, and say which", async () => {
    const good = { ...chat(1), method: "POST", url: "/v1/chat/completions" };
    const batch = await batchOf([
      chat(1),
      "no JSON",
      "",
      chat(1),
      JSON.stringify({ ...good, custom_id: "other", url: "/v1/embeddings" }),
      JSON.stringify({ ...good, custom_id: "get", method: "GET" }),
      { custom_id: "bare", body: {} },
      { custom_id: "stream", body: { model: GEMMA, stream: true } },
      { custom_id: "nul", body: { model: GEMMA, messages: [{ role: "user", content: "\0" }] } },
      chat(2, "stage:NOTHING"),
    ]);
    const failed = await ended(batch.id);
    expect(failed).toMatchObject({
      status: "failed",
      failed_at: expect.any(Number),
      request_counts: { total: 0, completed: 0, failed: 0 },
      output_file_id: null,
    });
    expect(failed.errors!.data!.map(({ code, line, param }) => [line, code, param])).toEqual([
      [2, "invalid_json_line", null],
      [4, "duplicate_custom_id", "custom_id"],
      [5, "mismatched_url", "url"],
      [6, "invalid_method", "method"],
      [7, "missing_required_parameter", "body.model"],
      [8, "unsupported_parameter", "body.stream"],
      [9, "invalid_text", null],
      [10, "unknown_stage", "body.model"],
    ]);
    // Not one was sent.
    expect(
      await gateway
        .sql`select from eve.jobs where kind = 'llm' and state <> 'succeeded' and state <> 'failed'`,
    )
      .toHaveLength(0);
  });

  test("are their consumer's alone, for its models alone", async () => {
    const added = await gateway.stack.invoke("admin/consumers/add", {
      name: "narrow",
      kind: "service",
      models: [GEMMA],
    });
    const narrow = clientOf((await added.json()).secret);
    const refused = await batchOf([chat(1), chat(2, "gemini-3.5-flash")], { by: narrow });
    expect((await ended(refused.id, narrow)).errors!.data).toMatchObject([{
      code: "model_not_allowed",
      line: 2,
      param: "body.model",
    }]);
    const mine = await ended((await batchOf([chat(1)], { by: narrow })).id, narrow);
    expect(mine.status).toBe("completed");
    const other = clientOf(
      (await (await gateway.stack.invoke("admin/consumers/add", { name: "other", kind: "service" })).json())
        .secret,
    );
    await expect(other.batches.retrieve(mine.id)).rejects.toThrow(NotFoundError);
    await expect(other.batches.cancel(mine.id)).rejects.toThrow(NotFoundError);
    await expect(other.files.content(mine.output_file_id!)).rejects.toThrow(NotFoundError);
    await expect(other.files.delete(mine.input_file_id)).rejects.toThrow(NotFoundError);
    await expect(other.batches.create({
      input_file_id: mine.input_file_id,
      endpoint: "/v1/chat/completions",
      completion_window: "24h",
    })).rejects.toThrow(NotFoundError);
    expect((await other.batches.list()).data).toEqual([]);
    expect((await other.files.list()).data).toEqual([]);
  });

  test("are cancelled in the middle, and keep what was done", async () => {
    const MANY = 300;
    const batch = await batchOf(Array.from({ length: MANY }, (_, n) => chat(n)));
    await until(async () => {
      await work();
      return (await client.batches.retrieve(batch.id)).request_counts!.completed >= 3;
    });
    expect(["cancelling", "cancelled"]).toContain((await client.batches.cancel(batch.id)).status);
    const done = await ended(batch.id);
    expect(done).toMatchObject({ status: "cancelled", cancelled_at: expect.any(Number) });
    const { total, completed } = done.request_counts!;
    expect([total, completed < MANY]).toEqual([MANY, true]);
    expect(await linesOf(done.output_file_id)).toHaveLength(completed);
    const others = await linesOf(done.error_file_id);
    expect(others).toHaveLength(MANY - completed);
    expect(others.at(-1)).toMatchObject({ error: { code: "batch_cancelled" } });
    await expect(client.batches.cancel(batch.id)).rejects.toMatchObject({ status: 409, code: "batch_ended" });
  });

  test("that expire keep what was done", async () => {
    const batch = await batchOf(Array.from({ length: 300 }, (_, n) => chat(n)));
    await until(async () => {
      await work();
      return (await client.batches.retrieve(batch.id)).request_counts!.completed >= 3;
    });
    // In one order, as the worker has it that is at some of them.
    await gateway.sql`
      with open as (
        select id from eve.jobs where batch_id is not null and finished_at is null order by id for no key update
      )
      update eve.jobs j set expires_at = now() from open o where o.id = j.id`;
    await gateway.sql`select public.eve_jobs_sweep()`;
    const done = await ended(batch.id);
    expect(done).toMatchObject({ status: "expired", expired_at: expect.any(Number) });
    expect(await linesOf(done.output_file_id)).toHaveLength(done.request_counts!.completed);
    expect((await linesOf(done.error_file_id)).at(-1)).toMatchObject({ error: { code: "batch_expired" } });
  });

  test("for what is not offered are refused by the field", async () => {
    const { id } = await fileOf([chat(1)]);
    const create = (more: Record<string, unknown>) =>
      client.batches.create({
        input_file_id: id,
        endpoint: "/v1/chat/completions",
        completion_window: "24h",
        ...more,
      } as OpenAI.BatchCreateParams);
    await expect(create({ endpoint: "/v1/moderations" })).rejects.toMatchObject({
      status: 400,
      param: "endpoint",
    });
    await expect(create({ completion_window: "1h" })).rejects.toMatchObject({ param: "completion_window" });
    await expect(create({ output_expires_after: { anchor: "created_at", seconds: 3600 } })).rejects
      .toMatchObject({
        param: "output_expires_after",
      });
    await expect(create({ input_file_id: `file-${"0".repeat(32)}` })).rejects.toThrow(NotFoundError);
  });
});

describe("[openai.background] responses in the background", () => {
  const create = (more: Record<string, unknown> = {}, by = client, headers = {}) =>
    by.responses.create(
      {
        model: GEMMA,
        input: "A question",
        background: true,
        ...more,
      } as OpenAI.Responses.ResponseCreateParamsNonStreaming,
      { headers },
    );
  async function over(id: string, by = client): Promise<OpenAI.Responses.Response> {
    await until(async () => {
      await work();
      return !["queued", "in_progress"].includes((await by.responses.retrieve(id)).status!);
    }, "the response goes on");
    return await by.responses.retrieve(id);
  }
  const keyOf = async (name: string, more: Record<string, unknown> = {}) =>
    (await (await gateway.stack.invoke("admin/consumers/add", { name, kind: "service", ...more })).json())
      .secret;

  test("are queued, made, asked for again and deleted", async () => {
    const queued = await create({ metadata: { of: "a test" }, instructions: "Be brief." });
    expect(queued).toMatchObject({
      id: expect.stringMatching(/^resp_[0-9a-f]{32}$/),
      object: "response",
      status: "queued",
      background: true,
      store: true,
      output: [],
      output_text: "",
      error: null,
      usage: null,
      model: GEMMA,
      metadata: { of: "a test" },
      created_at: expect.any(Number),
    });
    const done = await over(queued.id);
    expect(done).toMatchObject({
      id: queued.id,
      created_at: queued.created_at,
      status: "completed",
      background: true,
      store: true,
      metadata: { of: "a test" },
      output: [{ type: "message", status: "completed" }],
      usage: { total_tokens: expect.any(Number) },
    });
    expect(done.output_text).not.toBe("");
    // What has ended stays as it is, and cancelling it is no error.
    expect(await client.responses.cancel(queued.id)).toMatchObject({ status: "completed" });
    // Ask again until it has ended: no stream is kept.
    await expect(client.responses.retrieve(queued.id, { stream: true, starting_after: 1 })).rejects
      .toThrow(/what is kept is not streamed/);
    await expect(client.responses.create({ model: GEMMA, input: "?", background: true, stream: true }))
      .rejects
      .toThrow(/background/);
    await client.responses.delete(queued.id);
    await expect(client.responses.retrieve(queued.id)).rejects.toThrow(NotFoundError);
    await expect(client.responses.retrieve("resp_abc")).rejects.toThrow(NotFoundError);
  });

  test("are cancelled before they are sent, and fail with the error of their call", async () => {
    const before = (await gateway.bodies()).length;
    const rest = (until: string) =>
      gateway.sql`update eve.job_queues set paused_until = ${until} where kind = 'response'`;
    await rest("2099-01-01");
    const queued = await create();
    expect(await client.responses.cancel(queued.id)).toMatchObject({
      id: queued.id,
      status: "cancelled",
      output: [],
    });
    await rest("2000-01-01");
    await work();
    expect((await client.responses.retrieve(queued.id)).status).toBe("cancelled");
    expect((await gateway.bodies()).length).toBe(before);
    expect(await over((await create({ model: "nobody-knows-it" })).id)).toMatchObject({
      status: "failed",
      error: { code: "invalid_prompt", eve: { code: "unknown_model" } },
    });
  });

  test("that are not to be kept say so, and their prompts are kept nowhere else", async () => {
    await gateway.sql`delete from eve.captures`;
    const added = await keyOf("captured");
    const by = clientOf(added);
    await gateway.sql`update eve.consumers set capture = true where name = 'captured'`;
    expect(await create({ store: false })).toMatchObject({ store: false });
    const quiet = await create({}, by, { "x-eve-capture": "false" });
    expect(quiet).toMatchObject({ store: false });
    expect(await over(quiet.id, by)).toMatchObject({ status: "completed", store: false });
    expect(await gateway.sql`select from eve.captures`).toHaveLength(0);
    const [row] = await gateway
      .sql`select expires_at - ended_at = interval '1 hour' as leaves from eve.responses where not store and ended_at is not null`;
    expect(row).toEqual({ leaves: true });
  });

  test("are the same one under the same request id, and their consumer's alone", async () => {
    const by = clientOf(await keyOf("of-background", { models: [GEMMA] }));
    const first = await create({}, by, { "x-eve-request-id": "once" });
    expect((await create({}, by, { "x-eve-request-id": "once" })).id).toBe(first.id);
    await expect(create({ input: "Another" }, by, { "x-eve-request-id": "once" })).rejects.toMatchObject({
      status: 409,
      code: "request_id_reused",
    });
    await expect(create({ model: "gemini-3.5-flash" }, by)).rejects.toMatchObject({
      status: 403,
      param: "model",
    });
    const other = clientOf(await keyOf("another-of-background"));
    await expect(other.responses.retrieve(first.id)).rejects.toThrow(NotFoundError);
    await expect(other.responses.cancel(first.id)).rejects.toThrow(NotFoundError);
    await expect(other.responses.delete(first.id)).rejects.toThrow(NotFoundError);
    expect((await over(first.id, by)).status).toBe("completed");
  });

  test("are refused where they cannot be had", async () => {
    await expect(create({ stream: true })).rejects.toMatchObject({ status: 400, param: "stream" });
    await expect(create({ metadata: { ["x".repeat(65)]: "" } })).rejects.toMatchObject({ status: 400 });
    await expect(create({ input: [] })).rejects.toMatchObject({ status: 400, param: "input" });
    const { id } = await create();
    await expect(client.responses.retrieve(id, { stream: true })).rejects.toMatchObject({
      status: 400,
      param: "stream",
    });
    const line = { custom_id: "nested", body: { model: GEMMA, input: "A question", background: true } };
    const batch = await ended((await batchOf([line], { endpoint: "/v1/responses" })).id);
    expect(await linesOf(batch.error_file_id)).toMatchObject([{
      response: { status_code: 400, body: { error: { param: "background" } } },
    }]);
  });
});
