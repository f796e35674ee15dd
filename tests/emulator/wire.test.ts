/** What goes over the wire, byte by byte where it matters. */
import { afterEach, expect, test } from "vitest";
import { clockAt, emulator, framesOf, GEMMA, KEY, NOON, post, prompt, stopAll, textOf } from "./fixture.ts";

afterEach(stopAll);

const stream = { method: "streamGenerateContent" };

test("server-sent events are data frames, closed by CRLF CRLF, without [DONE]", async () => {
  const one = await emulator();
  for (const query of ["?alt=sse", "?$alt=sse"]) {
    const answer = await post(one, prompt("Write 40 words"), { ...stream, query });
    expect(answer.headers.get("content-type")).toBe("text/event-stream");
    const text = await answer.text();
    const frames = framesOf(text);
    expect(text).not.toContain("[DONE]");
    expect(frames.length).toBeGreaterThan(2);
    expect(frames.at(-1).candidates[0].finishReason).toBe("STOP");
    expect(frames.slice(0, -1).every((frame) => frame.candidates[0].finishReason === undefined)).toBe(true);
    expect(new Set(frames.map((frame) => frame.responseId)).size).toBe(1);
    expect(frames[0].modelVersion).toBe(GEMMA);
  }
});

test("without alt=sse a stream is one JSON array", async () => {
  const one = await emulator();
  const answer = await post(one, prompt("Write 40 words"), stream);
  expect(answer.headers.get("content-type")).toBe("application/json; charset=UTF-8");
  const text = await answer.text();
  expect(text.startsWith("[{\n")).toBe(true);
  expect(text).toContain("\n,\r\n{");
  const frames = JSON.parse(text);
  const whole = await (await post(one, prompt("Write 40 words"))).json();
  expect(frames.map((frame: unknown) => textOf(frame)).join("")).toBe(textOf(whole));
});

test("the array arrives piece by piece", async () => {
  const one = await emulator({ chunkDelayMs: 20 });
  const answer = await post(one, prompt("Write 60 words"), stream);
  let reads = 0;
  for await (const _ of answer.body!) reads++;
  expect(reads).toBeGreaterThan(3);
});

test("both versions of the API answer, and the key may come in the query", async () => {
  const one = await emulator();
  for (const version of ["v1", "v1beta"]) {
    const answer = await post(one, prompt("hi"), { version, key: null, query: `?key=${KEY}` });
    expect(answer.status).toBe(200);
    await answer.text();
  }
  expect(JSON.stringify(one.control.requests())).not.toContain(KEY);
});

test("old clients get enums as numbers", async () => {
  const one = await emulator();
  const answer = await post(one, prompt("hi"), { query: "?$alt=json;enum-encoding=int" });
  const body = await answer.json();
  expect(body.candidates[0].finishReason).toBe(1);
  expect(body.usageMetadata.promptTokensDetails[0].modality).toBe(1);
});

test("the same request is answered the same way", async () => {
  const clock = clockAt(NOON);
  const ask = async () => {
    const one = await emulator({ now: clock.now });
    return await (await post(one, prompt("Tell me about the sea"))).text();
  };
  expect(await ask()).toBe(await ask());
});

test("models are listed in pages and one by one, the withdrawn ones not", async () => {
  const one = await emulator();
  const get = (path: string) =>
    fetch(`${one.url}/v1beta/models${path}`, { headers: { "x-goog-api-key": KEY } });
  const first = await (await get("?pageSize=2")).json();
  expect(first.models).toHaveLength(2);
  const rest = await (await get(`?pageSize=100&pageToken=${first.nextPageToken}`)).json();
  const names = [...first.models, ...rest.models].map((model: { name: string }) => model.name);
  expect(names).toContain("models/gemma-4-31b-it");
  expect(names).not.toContain("models/gemma-3-27b");
  expect(rest.nextPageToken).toBeUndefined();
  const model = await (await get("/gemini-embedding-001")).json();
  expect(model).toMatchObject({ name: "models/gemini-embedding-001", inputTokenLimit: 2_048 });
  expect((await get("/gemma-3-27b")).status).toBe(404);
});

test("an address that is none gets the front end's page, not JSON", async () => {
  const one = await emulator();
  for (const path of ["/", "/v1beta/models/x:unknownMethod", "/v2/models"]) {
    const answer = await fetch(one.url + path, { method: "POST", body: "{}" });
    expect(answer.status).toBe(404);
    expect(answer.headers.get("content-type")).toContain("text/html");
    expect(await answer.text()).toContain("404.");
  }
});

test("Gemma 4 shows its thoughts unless it is told to think the least, Gemini only when asked", async () => {
  const one = await emulator();
  const thoughts = async (model: string, thinkingConfig?: unknown) => {
    const body = { ...prompt("Say hi"), generationConfig: thinkingConfig ? { thinkingConfig } : undefined };
    const { candidates, usageMetadata } = await (await post(one, body, { model })).json();
    const shown = candidates[0].content.parts.some((part: { thought?: boolean }) => part.thought);
    return { shown, counted: usageMetadata.thoughtsTokenCount > 0 };
  };
  expect(await thoughts(GEMMA)).toEqual({ shown: true, counted: true });
  expect(await thoughts(GEMMA, { includeThoughts: false })).toEqual({ shown: true, counted: true });
  expect(await thoughts(GEMMA, { thinkingLevel: "MINIMAL" })).toEqual({ shown: false, counted: false });
  expect(await thoughts("gemini-2.5-flash")).toEqual({ shown: false, counted: true });
  expect(await thoughts("gemini-2.5-flash", { includeThoughts: true })).toEqual({
    shown: true,
    counted: true,
  });
  expect(await thoughts("gemini-2.5-flash", { thinkingBudget: 0 })).toEqual({ shown: false, counted: false });
});

test("maxOutputTokens cuts the answer, and thinking can use it up", async () => {
  const one = await emulator();
  const ask = async (maxOutputTokens: number, thinkingLevel: string) => {
    const generationConfig = { maxOutputTokens, thinkingConfig: { thinkingLevel } };
    return await (await post(one, { ...prompt("Write 300 words"), generationConfig })).json();
  };
  const cut = await ask(20, "MINIMAL");
  expect(cut.candidates[0].finishReason).toBe("MAX_TOKENS");
  expect(cut.usageMetadata.candidatesTokenCount).toBeLessThanOrEqual(20);
  expect(cut.usageMetadata.candidatesTokenCount).toBeGreaterThan(15);
  const eaten = await ask(20, "HIGH");
  expect(eaten.candidates[0].finishReason).toBe("MAX_TOKENS");
  expect(textOf(eaten)).toBe("");
  expect(eaten.usageMetadata.candidatesTokenCount).toBeUndefined();
});

test("a stop sequence ends the answer before it", async () => {
  const one = await emulator();
  const body = { ...prompt("Reply with exactly: one, two, STOP, three"), generationConfig: {} };
  body.generationConfig = { stopSequences: [", STOP"] };
  expect(textOf(await (await post(one, body)).json())).toBe("one, two");
});

test("a call may be answered by words, or in its own turn, and an empty text is a part, as at Google", async () => {
  const one = await emulator();
  const call = { functionCall: { name: "find", args: {} } };
  const response = { functionResponse: { name: "find", response: {} } };
  const words = { role: "user", parts: [{ text: "Never mind" }] };
  const turns = [
    [words, { role: "model", parts: [call] }, words],
    [words, { role: "model", parts: [call, response] }, words],
    [{ role: "user", parts: [{ text: "hi" }, { text: "" }] }],
  ];
  for (const contents of turns) expect((await post(one, { contents })).status).toBe(200);
});

test("with mode ANY a function is called after a function's response, too", async () => {
  const one = await emulator();
  const body = {
    contents: [
      { role: "user", parts: [{ text: "Use find" }] },
      { role: "model", parts: [{ functionCall: { name: "find", args: {} } }] },
      { role: "user", parts: [{ functionResponse: { name: "find", response: {} } }] },
    ],
    tools: [{ functionDeclarations: [{ name: "find" }] }],
  };
  const said = async (mode: string) =>
    (await (await post(one, { ...body, toolConfig: { functionCallingConfig: { mode } } })).json())
      .candidates[0].content.parts.at(-1);
  expect(await said("ANY")).toHaveProperty("functionCall");
  expect(await said("AUTO")).toHaveProperty("text");
  // Agents wait for the tool that ends their run, whatever the question named, and put pictures beside a response.
  body.tools = [{ functionDeclarations: [{ name: "find" }, { name: "finish" }] }];
  expect(await said("ANY")).toMatchObject({ functionCall: { name: "finish" } });
  body.contents.push({ role: "user", parts: [{ text: "find:" } as never] });
  expect(await said("ANY")).toMatchObject({ functionCall: { name: "finish" } });
  expect(await said("AUTO")).toMatchObject({ text: expect.stringContaining("find answered") });
});

test("a signature of Google's own is taken with any call, one that was cut is not", async () => {
  const one = await emulator({ models: [{ name: "gemini-3.5-flash" }] });
  const said = async (bytes: number[]) => {
    const thoughtSignature = btoa(String.fromCharCode(...bytes));
    const contents = [
      { role: "user", parts: [{ text: "Use find" }] },
      { role: "model", parts: [{ functionCall: { name: "find", args: {} }, thoughtSignature }] },
      { role: "user", parts: [{ functionResponse: { name: "find", response: {} } }] },
    ];
    return (await post(one, { contents }, { model: "gemini-3.5-flash" })).status;
  };
  const long = [0x12, 0x80, 0x01, ...Array.from({ length: 128 }, (_, i) => i)];
  expect(await said([0x12, 3, 1, 2, 3])).toBe(200);
  expect(await said(long)).toBe(200);
  expect(await said(long.slice(0, -1))).toBe(400);
});

test("a model that makes pictures answers with one, and one that searches says where it stands", async () => {
  const one = await emulator({ models: [{ name: "draws", images: true }, { name: "gemini-3.5-flash" }] });
  const asked = async (model: string, more: unknown) => {
    const answer = await post(one, { ...prompt("Say hi"), ...Object(more) }, { model });
    return { status: answer.status, body: await answer.json() };
  };
  const pictures = { generationConfig: { responseModalities: ["TEXT", "IMAGE"] } };
  expect((await asked("draws", pictures)).body.candidates[0].content.parts.at(-1).inlineData.mimeType)
    .toBe("image/png");
  expect((await asked("gemini-3.5-flash", pictures)).status).toBe(400);
  const search = { tools: [{ googleSearch: {} }] };
  const found = await asked("gemini-3.5-flash", search);
  expect(found.body.candidates[0].groundingMetadata.groundingSupports[0].segment.text).toBe("hi");
  expect((await asked("draws", search)).status).toBe(400);
});

test("asked to describe a picture it tells one from another, and does not tell the prompt", async () => {
  const one = await emulator({ models: [{ name: "gemini-3.5-flash" }] });
  const described = async (data: string) => {
    const parts = [{ inlineData: { mimeType: "image/png", data } }, {
      text: "Describe the picture as JSON.",
    }];
    const generationConfig = {
      responseMimeType: "application/json",
      responseJsonSchema: {
        type: "object",
        properties: { description: { type: "string" } },
        required: ["description"],
      },
    };
    const model = "gemini-3.5-flash";
    const answer = await post(one, { contents: [{ role: "user", parts }], generationConfig }, { model });
    return JSON.parse((await answer.json()).candidates[0].content.parts[0].text).description;
  };
  const first = await described("iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB");
  expect(first).toMatch(/^Emulated picture \S+: image\/png, 24 bytes$/);
  expect(await described("iVBORw0KGgoAAAANSUhEUgAAAAEAAAAC")).not.toBe(first);
});
