/** Scripted trouble, as a client meets it. */
import { GoogleGenerativeAI } from "@google/generative-ai";
import { afterEach, expect, test } from "vitest";
import { fingerprint } from "../../local/emulator/emulator.ts";
import { emulator, framesOf, GEMMA, KEY, post, prompt, statusOf, stopAll } from "./fixture.ts";
import { until } from "../harness/patience.ts";

afterEach(stopAll);

const events = { method: "streamGenerateContent", query: "?alt=sse" };
const array = { method: "streamGenerateContent" };
const long = prompt("Write 60 words");

test("a fault is for as many requests as it says, after those it lets pass", async () => {
  const one = await emulator();
  one.control.addFaults({ kind: "status", error: "internal", times: 2, skip: 1 });
  const statuses = [];
  for (let i = 0; i < 4; i++) statuses.push(await statusOf(one));
  expect(statuses).toEqual([200, 500, 500, 200]);
  expect(one.control.faults()).toEqual([]);
});

test("a fault without an end lasts until it is cleared", async () => {
  const one = await emulator();
  one.control.addFaults({ kind: "status", error: "internal", times: null });
  expect([await statusOf(one), await statusOf(one)]).toEqual([500, 500]);
  expect(one.control.clearFaults()).toBe(1);
  expect(await statusOf(one)).toBe(200);
});

test("a fault is for the model, key, project, method or text it names", async () => {
  const one = await emulator();
  const matching = [
    { match: { model: "gemini-2.5-flash" }, sent: { model: "gemini-2.5-flash" } },
    { match: { key: "demo-key-b" }, sent: { key: "demo-key-b" } },
    { match: { key: fingerprint("demo-key-b") }, sent: { key: "demo-key-b" } },
    { match: { project: "demo-two" }, sent: { key: "demo-key-c" } },
    { match: { method: "countTokens" as const }, sent: { method: "countTokens" } },
    { match: { contains: "needle" }, sent: {}, text: "a needle here" },
  ];
  for (const { match, sent, text } of matching) {
    one.control.addFaults({ kind: "status", error: "internal", match });
    expect(await statusOf(one)).toBe(200);
    expect(await statusOf(one, text ?? "Say hi", sent)).toBe(500);
  }
});

test("a fault meant for calls leaves the list of models alone", async () => {
  const one = await emulator();
  one.control.addFaults({ kind: "status", error: "internal" });
  const list = await fetch(`${one.url}/v1beta/models?key=${KEY}`);
  expect(list.status).toBe(200);
  await list.text();
  expect(await statusOf(one)).toBe(500);
});

test("no header or body of a request makes a fault", async () => {
  const one = await emulator();
  const headers = { "x-emulator-fault": "internal", "x-fault": "internal" };
  expect(await statusOf(one, "Say hi", { headers })).toBe(200);
});

test("a delay is a wait and then an answer", async () => {
  const one = await emulator();
  one.control.addFaults({ kind: "delay", delayMs: 120 });
  const start = performance.now();
  expect(await statusOf(one)).toBe(200);
  expect(performance.now() - start).toBeGreaterThanOrEqual(115);
});

test("a hang sends nothing until the caller leaves, which is noticed", async () => {
  const one = await emulator();
  one.control.addFaults({ kind: "hang" });
  const leaving = new AbortController();
  const left = post(one, prompt("hi"), { signal: leaving.signal });
  await until(() => one.control.stats().admitted.total === 1);
  leaving.abort();
  await expect(left).rejects.toThrow();
  await until(() => one.control.stats().aborted.waiting === 1);
  // It was admitted, so it has used its quota.
  expect(one.control.stats()).toMatchObject({ admitted: { total: 1 }, inFlight: 0 });
  expect(one.control.requests().at(-1)!.status).toBeNull();
});

test("a caller who leaves in the middle of a stream is counted", async () => {
  const one = await emulator({ chunkDelayMs: 20 });
  const leave = new AbortController();
  const answer = await post(one, long, { ...events, signal: leave.signal });
  await answer.body!.getReader().read();
  leave.abort();
  await until(() => one.control.stats().aborted.streams === 1);
  expect(one.control.stats().inFlight).toBe(0);
});

test("a broken stream resets the connection after its chunks", async () => {
  const one = await emulator();
  for (const sent of [events, array]) {
    one.control.addFaults({ kind: "broken_stream", afterChunks: 2 });
    const answer = await post(one, long, sent);
    expect(answer.status).toBe(200);
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
    let got = "";
    const broken = (async () => {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        got += value;
      }
    })();
    await expect(broken).rejects.toThrow();
    expect(got.match(/"responseId"/g)).toHaveLength(2);
  }
  expect(one.control.stats().aborted).toEqual({ waiting: 0, streams: 0 });
});

test("a stream may also end as if it were whole, without a finishReason", async () => {
  const one = await emulator();
  one.control.addFaults({ kind: "broken_stream", afterChunks: 2, how: "end", times: 2 });
  const frames = framesOf(await (await post(one, long, events)).text());
  expect(frames).toHaveLength(2);
  expect(frames.some((frame) => frame.candidates[0].finishReason)).toBe(false);
  expect(JSON.parse(await (await post(one, long, array)).text())).toHaveLength(2);
});

test("an answer that is not a stream breaks in its middle too", async () => {
  const one = await emulator();
  one.control.addFaults({ kind: "broken_stream" });
  const answer = await post(one, long);
  expect(answer.status).toBe(200);
  await expect(answer.text()).rejects.toThrow();
});

test("an error in the middle of a stream comes as a frame, or as raw JSON", async () => {
  const one = await emulator();
  one.control.addFaults(
    { kind: "mid_stream_error", afterChunks: 2 },
    { kind: "mid_stream_error", afterChunks: 1, as: "raw", error: "internal" },
    { kind: "mid_stream_error", afterChunks: 1 },
  );
  const frames = framesOf(await (await post(one, long, events)).text());
  expect(frames).toHaveLength(3);
  expect(frames[2].error).toMatchObject({ code: 503, status: "UNAVAILABLE" });
  const raw = await (await post(one, long, events)).text();
  expect(raw).toMatch(/\r\n\r\n\{\n {2}"error": \{\n/);
  expect(JSON.parse(raw.split("\r\n\r\n")[1]!).error.code).toBe(500);
  const inArray = JSON.parse(await (await post(one, long, array)).text());
  expect(inArray.at(-1).error.code).toBe(503);
});

test("an error before the first chunk keeps the framing whole", async () => {
  const one = await emulator();
  one.control.addFaults({ kind: "mid_stream_error", afterChunks: 0, times: 2 });
  expect(framesOf(await (await post(one, long, events)).text())[0].error.code).toBe(503);
  expect(JSON.parse(await (await post(one, long, array)).text())[0].error.code).toBe(503);
});

test("a block of the prompt or of the answer is status 200 without text", async () => {
  const one = await emulator();
  one.control.addFaults(
    { kind: "safety_block", reason: "PROHIBITED_CONTENT" },
    { kind: "safety_block", where: "candidate", reason: "RECITATION" },
    { kind: "safety_block", where: "candidate" },
  );
  const blocked = await (await post(one, prompt("hi"))).json();
  expect(blocked.promptFeedback).toEqual({ blockReason: "PROHIBITED_CONTENT" });
  expect(blocked.candidates).toBeUndefined();
  expect(blocked.usageMetadata.promptTokenCount).toBeGreaterThan(0);
  const recited = await (await post(one, prompt("hi"))).json();
  expect(recited.candidates).toEqual([{ finishReason: "RECITATION", index: 0 }]);
  const frames = framesOf(await (await post(one, prompt("hi"), events)).text());
  expect(frames[0].candidates[0].finishReason).toBe("SAFETY");
});

test("the SDK throws on a block", async () => {
  const one = await emulator();
  one.control.addFaults({ kind: "safety_block" });
  const model = new GoogleGenerativeAI(KEY).getGenerativeModel({ model: GEMMA }, { baseUrl: one.url });
  const { response } = await model.generateContent("hi");
  expect(() => response.text()).toThrow(/blocked due to SAFETY/);
});

test("an empty answer has one of four shapes", async () => {
  const one = await emulator();
  const shapes = ["no_candidates", "no_content", "no_parts", "empty_text"] as const;
  one.control.addFaults(...shapes.map((shape) => ({ kind: "empty_answer", shape }) as const));
  const bodies = [];
  for (const _ of shapes) bodies.push((await (await post(one, prompt("hi"))).json()).candidates?.[0]);
  expect(bodies).toEqual([
    undefined,
    { finishReason: "STOP", index: 0 },
    { content: { role: "model" }, finishReason: "STOP", index: 0 },
    { content: { parts: [{ text: "" }], role: "model" }, finishReason: "STOP", index: 0 },
  ]);
});

test("malformed JSON comes with status 200", async () => {
  const one = await emulator();
  one.control.addFaults({ kind: "malformed_json", times: 2 });
  const answer = await post(one, prompt("hi"));
  expect(answer.status).toBe(200);
  const text = await answer.text();
  expect(() => JSON.parse(text)).toThrow();
  const stream = await (await post(one, long, events)).text();
  expect(() => framesOf(stream)).toThrow();
});

test("a disconnect closes the connection before any byte", async () => {
  const one = await emulator();
  one.control.addFaults({ kind: "disconnect" });
  await expect(post(one, prompt("hi"))).rejects.toThrow();
  await until(() => one.control.stats().inFlight === 0);
  expect(one.control.stats()).toMatchObject({
    faults: { byKind: { disconnect: 1 } },
    aborted: { waiting: 0 },
  });
  expect(await statusOf(one)).toBe(200);
});
