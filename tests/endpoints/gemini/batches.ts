/** Files and batches, by `@google/genai`, against a whole stack with its worker. */
import { ApiError, type BatchJob, createPartFromUri, GoogleGenAI, type InlinedRequest } from "@google/genai";
import { GoogleAIFileManager } from "@google/generative-ai/server";
import { Buffer } from "node:buffer";
import { describe, expect, test } from "vitest";
import { until } from "../../harness/patience.ts";
import { GEMMA, PNG, type TestGateway } from "../test_gateway.ts";

export function batches(gateway: () => TestGateway): void {
  const clientOf = (apiKey = gateway().key) =>
    new GoogleGenAI({ apiKey, httpOptions: { baseUrl: gateway().baseUrl } });
  const other = async (name: string) => {
    const added = await gateway().stack.invoke("admin/consumers/add", { name, kind: "service" });
    return (await added.json()).secret as string;
  };
  const refusal = async (answer: Promise<unknown>) => {
    const error = await answer.then(() => expect.unreachable(), (thrown) => thrown as ApiError);
    expect(error).toBeInstanceOf(ApiError);
    const { status, message } = JSON.parse(error.message).error;
    return { code: error.status, status, message };
  };
  const upload = (text: string, mimeType = "application/jsonl", displayName = "lines") =>
    clientOf().files.upload({
      file: new Blob([text], { type: mimeType }),
      config: { mimeType, displayName },
    });
  const contentOf = async (name: string) =>
    await (await gateway().fetch(`/v1beta/${name}:download?alt=media`)).text();
  const asking = (text: string) => ({ contents: [{ role: "user", parts: [{ text }] }] });
  /** Calls the worker as the schedule does, which is off here: when something is due. */
  const ended = async ({ name }: BatchJob): Promise<BatchJob> => {
    const { stack, sql } = gateway();
    let job: BatchJob;
    await until(async () => {
      const [row] = await sql`select public.eve_jobs_due() as is_due`;
      if (row!.is_due) await (await stack.invoke("worker", {})).body?.cancel();
      job = await clientOf().batches.get({ name: name! });
      return !["JOB_STATE_PENDING", "JOB_STATE_RUNNING"].includes(job.state!);
    }, "the batch goes on");
    return job!;
  };

  describe("files", () => {
    test("[gemini.files] are uploaded, listed, downloaded and deleted", async () => {
      const { files } = clientOf();
      const file = await upload('{"key": "a"}\n');
      expect(file).toMatchObject({
        name: expect.stringMatching(/^files\/[0-9a-f]{32}$/),
        displayName: "lines",
        mimeType: "application/jsonl",
        sizeBytes: "13",
        state: "ACTIVE",
        source: "UPLOADED",
        sha256Hash: expect.any(String),
        uri: `${gateway().baseUrl}/v1beta/${file.name}`,
      });
      // As long as the gateway's other files.
      expect(Date.parse(file.expirationTime!) - Date.parse(file.createTime!)).toBe(30 * 24 * 3_600_000);
      expect(await files.get({ name: file.name! })).toEqual(file);
      const second = await upload("Привет", "text/plain");
      const listed = [];
      for await (const one of await files.list({ config: { pageSize: 1 } })) listed.push(one.name);
      expect(listed).toEqual([second.name, file.name]);
      expect(await contentOf(second.name!)).toBe("Привет");
      await files.delete({ name: file.name! });
      await files.delete({ name: second.name! });
      expect(await refusal(files.get({ name: file.name! }))).toMatchObject({
        code: 404,
        status: "NOT_FOUND",
      });
    });

    test("[gemini.file-data] of Google's older client come in one request, and pictures are shown to models", async () => {
      const manager = new GoogleAIFileManager(gateway().key, { baseUrl: gateway().baseUrl });
      const { file } = await manager.uploadFile(Buffer.from(PNG, "base64"), {
        mimeType: "image/png",
        displayName: "a picture",
      });
      expect(file).toMatchObject({ mimeType: "image/png", displayName: "a picture", state: "ACTIVE" });
      const contents = [createPartFromUri(file.uri, file.mimeType), { text: "What is it?" }];
      await clientOf().models.generateContent({ model: GEMMA, contents });
      // Nobody but the gateway knows the file: upstream got its content.
      const [sent] = await gateway().bodies();
      expect(sent).toMatchObject({
        contents: [{
          parts: [{ inlineData: { mimeType: "image/png", data: PNG } }, { text: "What is it?" }],
        }],
      });
      const stranger = clientOf(await other("without-pictures"));
      expect(await refusal(stranger.models.generateContent({ model: GEMMA, contents })))
        .toMatchObject({ code: 404 });
      await manager.deleteFile(file.name);
    });

    test("[gemini.files] that are too large, empty, named or nothing like their type are refused in words", async () => {
      const huge = await gateway().fetch("/upload/v1beta/files", { file: {} }, {
        headers: {
          "x-goog-upload-protocol": "resumable",
          "x-goog-upload-command": "start",
          "x-goog-upload-header-content-length": "200000001",
          "x-goog-upload-header-content-type": "text/plain",
        },
      });
      expect([huge.status, (await huge.json()).error]).toMatchObject([413, { status: "INVALID_ARGUMENT" }]);
      const named = clientOf().files.upload({
        file: new Blob(["a"]),
        config: { mimeType: "text/plain", name: "mine" },
      });
      expect((await refusal(named)).message).toContain("file.name");
      expect(await refusal(upload("no picture", "image/png"))).toMatchObject({ code: 415 });
    });

    test("[gemini.files] are sent to an address that stands for the caller, for that file alone", async () => {
      const begin = await gateway().fetch("/upload/v1beta/files", { file: { display_name: "x" } }, {
        headers: {
          "x-goog-upload-protocol": "resumable",
          "x-goog-upload-command": "start",
          "x-goog-upload-header-content-length": "2",
          "x-goog-upload-header-content-type": "text/plain",
        },
      });
      await begin.body?.cancel();
      expect(begin.headers.get("x-goog-upload-status")).toBe("active");
      const address = begin.headers.get("x-goog-upload-url")!;
      const send = async (command: string, body = "", url = address, more: Record<string, string> = {}) => {
        const response = await fetch(url, {
          method: "POST",
          headers: { "x-goog-upload-command": command, ...more },
          body,
        });
        return [response.status, response.headers.get("x-goog-upload-status"), (await response.json()).file];
      };
      expect(await send("query")).toEqual([200, "active", undefined]);
      expect(await send("upload", "ab")).toEqual([400, null, undefined]);
      expect(await send("upload, finalize", "b", address, { "x-goog-upload-offset": "1" })).toEqual([
        400,
        null,
        undefined,
      ]);
      expect(await send("upload, finalize", "abc")).toEqual([400, null, undefined]);
      const [status, state, file] = await send("upload, finalize", "ab");
      expect([status, state, file]).toMatchObject([200, "final", { displayName: "x", sizeBytes: "2" }]);
      // Its end was sent twice: it is one file.
      expect(await send("upload, finalize", "ab")).toEqual([200, "final", file]);
      expect(await send("upload, finalize", "cd")).toEqual([404, null, undefined]);
      expect(await send("query")).toEqual([200, "final", file]);
      expect(await send("query", "", address.replace(/(upload_id=[^.]+\.)../, "$1AA"))).toEqual([
        401,
        null,
        undefined,
      ]);
      await clientOf().files.delete({ name: file.name });
    });
  });

  test("[gemini.files] of more than 8 MiB come in pieces, any of which may be sent again, and are read as one", async () => {
    const PIECE = 8 * 1024 * 1024;
    const line = (key: string) => JSON.stringify({ key, request: asking(`Reply with exactly: ${key}`) });
    // The second line begins in the first piece and ends in the second.
    const text = `${line("a")}\n${" ".repeat(PIECE - 500)}${line("b")}${" ".repeat(500)}\n`;
    const file = await upload(text);
    expect(file).toMatchObject({
      mimeType: "application/jsonl",
      sizeBytes: String(text.length),
      state: "ACTIVE",
    });
    expect(await contentOf(file.name!)).toBe(text);
    const created = await clientOf().batches.create({ model: GEMMA, src: file.name! });
    const { dest } = await ended(created);
    expect((await contentOf(dest!.fileName!)).trim().split("\n").map((one) => JSON.parse(one).key)).toEqual([
      "a",
      "b",
    ]);
    await clientOf().batches.delete({ name: created.name! });
    await clientOf().files.delete({ name: file.name! });

    const start = (type: string, size: number) =>
      gateway().fetch("/upload/v1beta/files", { file: { display_name: "x" } }, {
        headers: {
          "x-goog-upload-protocol": "resumable",
          "x-goog-upload-command": "start",
          "x-goog-upload-header-content-length": String(size),
          "x-goog-upload-header-content-type": type,
        },
      });
    const addressOf = (response: Response) => response.headers.get("x-goog-upload-url")!;
    const begin = await start("application/octet-stream", PIECE + 3);
    await begin.body?.cancel();
    const send = async (command: string, at = 0, body: Uint8Array<ArrayBuffer> | string = "") => {
      const response = await fetch(addressOf(begin), {
        method: "POST",
        headers: { "x-goog-upload-command": command, "x-goog-upload-offset": String(at) },
        body,
      });
      const { file, error } = await response.json();
      return [response.status, response.headers.get("x-goog-upload-size-received"), file ?? error?.message];
    };
    const piece = new Uint8Array(PIECE);
    expect(await send("upload, finalize", 5, "abc")).toEqual([
      400,
      null,
      expect.stringContaining("Go on from byte 0"),
    ]);
    expect(await send("upload", 0, piece)).toEqual([200, String(PIECE), undefined]);
    expect(await send("upload", 0, piece)).toEqual([200, String(PIECE), undefined]);
    expect(await send("query")).toEqual([200, String(PIECE), undefined]);
    expect(await send("finalize")).toEqual([400, null, expect.stringContaining(`${PIECE} bytes came`)]);
    expect(await send("upload", PIECE, "abcd")).toEqual([400, null, expect.stringContaining("Go on from")]);
    const [status, , kept] = await send("upload, finalize", PIECE, "abc");
    expect([status, kept]).toMatchObject([200, { sizeBytes: String(PIECE + 3) }]);
    // Its end was sent twice: it is one file.
    expect(await send("upload, finalize", PIECE, "abc")).toEqual([200, String(PIECE + 3), kept]);
    expect((await contentOf(kept.name)).slice(-4)).toBe("\0abc");
    await clientOf().files.delete({ name: kept.name });

    const picture = addressOf(await start("image/png", PIECE + 3));
    const wrong = await fetch(picture, {
      method: "POST",
      headers: { "x-goog-upload-command": "upload", "x-goog-upload-offset": "0" },
      body: piece,
    });
    expect([wrong.status, (await wrong.json()).error.status]).toEqual([415, "INVALID_ARGUMENT"]);
  });

  describe("batches", () => {
    const inline = (count: number): InlinedRequest[] =>
      Array.from({ length: count }, (_, n) => ({
        ...asking(`Reply with exactly: ${n}`),
        metadata: { key: `request-${n}` },
        config: { systemInstruction: "Short." },
      }));

    test("[gemini.batches] of inline requests tell their responses with themselves", async () => {
      const { batches } = clientOf();
      const wrong = {
        ...inline(1)[0]!,
        config: { temperature: 99 },
        metadata: { key: "wrong", of: "a test" },
      };
      const created = await batches.create({
        model: GEMMA,
        src: [...inline(2), wrong, asking("Reply with exactly: bare")],
        config: { displayName: "four" },
      });
      expect(created).toMatchObject({
        name: expect.stringMatching(/^batches\/[0-9a-f]{32}$/),
        displayName: "four",
        state: "JOB_STATE_PENDING",
        model: `models/${GEMMA}`,
        createTime: expect.any(String),
      });
      const done = await ended(created);
      expect(done).toMatchObject({ state: "JOB_STATE_SUCCEEDED", endTime: expect.any(String) });
      const responses = done.dest!.inlinedResponses!;
      expect(responses.map(({ metadata }) => metadata)).toEqual([
        { key: "request-0" },
        { key: "request-1" },
        { key: "wrong", of: "a test" },
        undefined,
      ]);
      expect(responses.map(({ response }) => response?.candidates?.[0]?.content?.parts?.at(-1)?.text))
        .toEqual(["0", "1", undefined, "bare"]);
      expect(responses[2]!.error).toEqual({ code: 3, message: expect.stringContaining("temperature") });
      const plain = await (await gateway().fetch(`/v1beta/${created.name}`)).json();
      expect(plain).toMatchObject({
        done: true,
        metadata: {
          batchStats: {
            requestCount: "4",
            successfulRequestCount: "3",
            failedRequestCount: "1",
            pendingRequestCount: "0",
          },
        },
      });
      expect(plain.response.inlinedResponses).toEqual(plain.metadata.output.inlinedResponses);
      // What came with the batch is no file of its caller's, and leaves with it.
      expect((await clientOf().files.list()).page).toEqual([]);
      await batches.delete({ name: created.name! });
      expect(await refusal(batches.get({ name: created.name! }))).toMatchObject({ code: 404 });
      expect(await gateway().sql`select from eve.batch_files where purpose <> 'batch_output'`).toHaveLength(
        0,
      );
    });

    test("[gemini.batches] of a file answer in a file, line by line, and are their caller's alone", async () => {
      const { batches, files } = clientOf();
      const lines = ["a", "b"].map((key) => ({
        key,
        request: { ...asking(`Reply with exactly: ${key}`), generation_config: { temperature: 0 } },
      }));
      // As Google's own examples call its type.
      const file = await upload(lines.map((line) => JSON.stringify(line)).join("\n"), "jsonl");
      const created = await batches.create({ model: GEMMA, src: file.name! });
      const done = await ended(created);
      expect(done).toMatchObject({
        state: "JOB_STATE_SUCCEEDED",
        dest: { fileName: expect.stringMatching(/^files\//) },
      });
      const answers = (await contentOf(done.dest!.fileName!)).trim().split("\n").map((line) =>
        JSON.parse(line)
      );
      expect(answers.map(({ key, response }) => [key, response.candidates[0].content.parts.at(-1).text]))
        .toEqual([["a", "a"], ["b", "b"]]);
      expect(await files.get({ name: done.dest!.fileName! })).toMatchObject({
        source: "GENERATED",
        sizeBytes: String(new Blob([await contentOf(done.dest!.fileName!)]).size),
      });
      const stranger = clientOf(await other("without-batches"));
      for (
        const asks of [
          () => stranger.batches.get({ name: created.name! }),
          () => stranger.batches.cancel({ name: created.name! }),
          () => stranger.batches.delete({ name: created.name! }),
          () => stranger.files.get({ name: done.dest!.fileName! }),
          () => stranger.files.delete({ name: file.name! }),
          () => stranger.batches.create({ model: GEMMA, src: file.name! }),
        ]
      ) expect(await refusal(asks())).toMatchObject({ code: 404, status: "NOT_FOUND" });
      expect((await stranger.batches.list()).page).toEqual([]);
      // OpenAI's clients do not meet it: they would not know its lines.
      const openai = await (await gateway().fetch("/openai/v1/batches")).json();
      expect(openai.data).toEqual([]);
      expect(await refusal(batches.cancel({ name: created.name! }))).toMatchObject({
        code: 409,
        status: "FAILED_PRECONDITION",
      });
      await batches.delete({ name: created.name! });
      // With it goes what came of it.
      expect(await refusal(files.get({ name: done.dest!.fileName! }))).toMatchObject({ code: 404 });
      await files.delete({ name: file.name! });
    });

    test("[gemini.batches] of a file that cannot be used fail, and say which lines", async () => {
      const file = await upload(
        ['{"key": "a", "request": {"model": "models/another"}}', "no JSON", '{"request": []}'].join("\n"),
      );
      const created = await clientOf().batches.create({ model: GEMMA, src: file.name! });
      expect(await ended(created)).toMatchObject({ state: "JOB_STATE_FAILED" });
      const { error } = await (await gateway().fetch(`/v1beta/${created.name}`)).json();
      expect(error).toEqual({
        code: 3,
        message: expect.stringMatching(/^Line 1: .*another model.* Line 2: .* Line 3: /i),
      });
      await clientOf().batches.delete({ name: created.name! });
      await clientOf().files.delete({ name: file.name! });
    });

    test("[gemini.batches] are listed page by page, cancelled and deleted while they run", async () => {
      const { batches } = clientOf();
      // More than a minute's worth.
      const [first, second] = [
        await batches.create({ model: GEMMA, src: inline(40) }),
        await batches.create({ model: GEMMA, src: inline(40) }),
      ];
      const listed = [];
      for await (const one of await batches.list({ config: { pageSize: 1 } })) listed.push(one.name);
      expect(listed).toEqual([second.name, first.name]);
      await batches.cancel({ name: first.name! });
      const done = await ended(first);
      expect(done.state).toBe("JOB_STATE_CANCELLED");
      await batches.delete({ name: second.name! });
      expect((await batches.list()).page.map(({ name }) => name)).toEqual([first.name]);
      await batches.delete({ name: first.name! });
      // Nothing of either is sent any more.
      await until(async () =>
        (await gateway().sql`select from eve.jobs where kind = 'llm' and state in ('queued', 'running')`)
          .length === 0
      );
    });

    test("[gemini.batches] and what is not offered are refused in words", async () => {
      const { batches } = clientOf();
      expect(await refusal(batches.create({ model: "nobody-knows-it", src: inline(1) }))).toMatchObject({
        code: 404,
      });
      expect(await refusal(batches.create({ model: GEMMA, src: `files/${"0".repeat(32)}` }))).toMatchObject({
        code: 404,
      });
      const create = async (batch: unknown) => {
        const response = await gateway().fetch(`/v1beta/models/${GEMMA}:batchGenerateContent`, { batch });
        return [response.status, (await response.json()).error.message];
      };
      expect(await create({ input_config: {} })).toEqual([
        400,
        expect.stringContaining("either requests or a fileName"),
      ]);
      expect(await create({ input_config: { file_name: "files/x" }, priority: 1 })).toEqual([
        400,
        expect.stringContaining("batch.priority"),
      ]);
      expect(await create({ input_config: { requests: { requests: [{ metadata: {} }] } } })).toEqual([
        400,
        expect.stringContaining("request"),
      ]);
      for (
        const [path, body] of [["batches/x:pause", {}], [`models/${GEMMA}:asyncBatchEmbedContent`, {}], [
          "files/x:copy",
          {},
        ]] as const
      ) {
        const response = await gateway().fetch(`/v1beta/${path}`, body);
        expect([response.status, (await response.json()).error]).toMatchObject([404, {
          status: "NOT_FOUND",
        }]);
      }
    });
  });
}
