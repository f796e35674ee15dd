/** The gateway's own JSON as the README shows it, over HTTP against the running stack. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { readEvents } from "../../shared/providers/event_stream.ts";
import { closeTestGateway, type OpenedGateway, openTestGateway } from "./opened_gateway.ts";
import { EMBEDDING, GEMMA, leftEarly, PNG, SIGNING } from "./test_gateway.ts";

let gateway: OpenedGateway;
beforeAll(async () => {
  gateway = await openTestGateway();
});
afterAll(() => closeTestGateway(gateway));
beforeEach(() => gateway.clear());

const call = (body: object, init?: RequestInit) =>
  gateway.stack.invoke("llm-invoke", { model: GEMMA, ...body }, init);
const ask = async (body: object) => {
  const response = await call(body);
  const answer = await response.json();
  expect(answer.error).toBeUndefined();
  return answer;
};
const lastBody = async () => (await gateway.bodies()).at(-1) as Record<string, unknown>;

test("[native.cache] vectors are given again, however many there are, and are another thing for other texts", async () => {
  const post = async (path: string, body: object) => {
    const response = await gateway.stack.invoke(`llm-invoke${path}`, body, {
      headers: {
        apikey: gateway.stack.keys.secret,
        "content-type": "application/json",
        "x-eve-cache-ttl": "600",
      },
    });
    const said = response.headers.get("x-eve-cache")?.replace(/; (age|ttl|key)=[0-9a-f]+/g, "");
    return { said, body: await response.json() };
  };
  const model = "gemini-embedding-001";
  // Enough that they are kept among the files.
  const input = ["концерт", "лекция", "ярмарка", "выставка", "спектакль", "кино", "забег", "квест"];
  const first = await post("/openai/v1/embeddings", { model, input });
  const calls = async () => (await gateway.stats()).received.total;
  const made = await calls();
  const again = await post("/openai/v1/embeddings", { model, input });
  expect(await calls()).toBe(made);
  expect([first.said, again.said]).toEqual(["miss; stored", "hit"]);
  expect(again.body).toEqual(first.body);
  expect(first.body.data).toHaveLength(8);
  const content = (text: string) => ({ parts: [{ text }] });
  const one = { content: content("концерт"), outputDimensionality: 128 };
  const embed = `/v1beta/models/${model}:embedContent`;
  const others = [
    await post(embed, one),
    await post(embed, { ...one, outputDimensionality: 256 }),
    await post(embed, one),
  ];
  expect(others.map(({ said }) => said)).toEqual(["miss; stored", "miss; stored", "hit"]);
  expect(others[2]!.body).toEqual(others[0]!.body);
  expect(await calls()).toBe(made + 2);
});

test("[native.cache] an answer is given again, whole or as a stream, at every endpoint that it is asked at, and says so", async () => {
  const say = `Reply with exactly: ${"концерт в парке ".repeat(30)}`;
  const post = (path: string, body: object) =>
    gateway.stack.invoke(`llm-invoke${path}`, body, {
      headers: {
        apikey: gateway.stack.keys.secret,
        "content-type": "application/json",
        "x-eve-cache-ttl": "600",
      },
    });
  const generate = `/v1beta/models/${GEMMA}`;
  const contents = [{ role: "user", parts: [{ text: say }] }];
  const chat = { model: GEMMA, messages: [{ role: "user", content: `${say}!` }] };
  const asked: [string, object][] = [
    ["", { model: GEMMA, prompt: say, cache: { ttl_s: 60 } }],
    ["", { model: GEMMA, prompt: say, cache: { ttl_s: 60 }, stream: true }],
    ["", { model: GEMMA, prompt: say, cache: { ttl_s: 0 } }],
    ["/openai/v1/chat/completions", { ...chat, stream: true }],
    ["/openai/v1/chat/completions", chat],
    ["/openai/v1/chat/completions", { ...chat, stream: true }],
    [`${generate}:streamGenerateContent?alt=sse`, { contents: [...contents, ...contents] }],
    [`${generate}:streamGenerateContent?alt=sse`, { contents: [...contents, ...contents] }],
    [`${generate}:generateContent`, { contents: [...contents, ...contents] }],
  ];
  const said: string[] = [];
  const texts: string[] = [];
  for (const [path, body] of asked) {
    const response = await post(path, body);
    expect(response.status).toBe(200);
    said.push(response.headers.get("x-eve-cache")?.replace(/; (age|ttl|key)=[0-9a-f]+/g, "") ?? "nothing");
    texts.push(await response.text());
  }
  expect(said).toEqual([
    "miss; stored",
    "hit",
    "bypass; reason=asked",
    "miss",
    "hit",
    "hit",
    "miss",
    "hit",
    "hit",
  ]);
  // In pieces, and nothing of it is lost.
  const deltas = texts[5]!.split("\n").filter((line) => line.startsWith("data: {"))
    .map((line) => JSON.parse(line.slice(6)).choices?.[0]?.delta?.content ?? "");
  expect([deltas.filter((text) => text !== "").length > 2, deltas.join("")])
    .toEqual([true, JSON.parse(texts[4]!).choices[0].message.content]);
  expect(texts[7]).toContain("STOP");
  expect(await gateway.bodies()).toHaveLength(4);
});

describe("a conversation", () => {
  test("[native.text] as a prompt, as messages or as contents, with system texts", async () => {
    const wanted = { role: "user", parts: [{ text: "Reply with exactly: концерт" }] };
    const asked = [
      { prompt: "Reply with exactly: концерт", system: "Кратко." },
      {
        messages: [
          { role: "system", content: "Кратко." },
          { role: "user", content: "Reply with exactly: концерт" },
        ],
      },
      { contents: [wanted], system: "Кратко." },
    ];
    for (const body of asked) {
      expect(await ask(body)).toMatchObject({ text: "концерт", finish_reason: "STOP", attempts: 1 });
      expect(await lastBody()).toMatchObject({
        contents: [wanted],
        systemInstruction: { parts: [{ text: "Кратко." }] },
      });
    }
  });

  test("[native.pictures] with a picture", async () => {
    const content = [{ text: "What is this?" }, { inline_data: { mime_type: "image/png", data: PNG } }];
    const { usage } = await ask({ messages: [{ role: "user", content }] });
    expect(usage.input_tokens).toBeGreaterThan(250);
  });

  test("[native.thoughts] thoughts are among the parts, and not in the text", async () => {
    const { text, parts } = await ask({
      model: SIGNING,
      prompt: "Hello",
      generation: { thinking_level: "high", include_thoughts: true },
    });
    const thoughts = parts.filter(({ thought }: { thought?: boolean }) => thought);
    expect(thoughts.length).toBeGreaterThan(0);
    expect(text).not.toContain(thoughts[0].text);
  });

  test("[native.tools] calls tools in two turns, signatures included", async () => {
    const tools = [{
      functionDeclarations: [{
        name: "find_events",
        description: "Looks up events",
        parameters: { type: "object", properties: { date: { type: "string" } }, required: ["date"] },
      }],
    }];
    const contents: object[] = [{ role: "user", parts: [{ text: "Use find_events for 5 мая 2027 года" }] }];
    const first = await ask({
      model: SIGNING,
      contents,
      tools,
      tool_config: { functionCallingConfig: { mode: "ANY" } },
    });
    const called = first.parts.find((part: { functionCall?: object }) => part.functionCall);
    expect(called.functionCall.name).toBe("find_events");
    expect(called.thoughtSignature).toEqual(expect.any(String));
    contents.push({ role: "model", parts: first.parts });
    contents.push({
      role: "user",
      parts: [{ functionResponse: { name: "find_events", response: { found: "Лекция" } } }],
    });
    expect((await ask({ model: SIGNING, contents, tools })).text).toContain("Лекция");
  });
});

describe("settings", () => {
  test("[native.generation] go upstream in Google's spelling, those of tomorrow as they are", async () => {
    await ask({
      prompt: "Hello",
      generation: { temperature: 0, top_p: 0.9, top_k: 20, stop: "#", seed: 7, max_output_tokens: 500 },
      safety_settings: [{ category: "HARM_CATEGORY_HARASSMENT", threshold: "BLOCK_NONE" }],
    });
    expect(await lastBody()).toMatchObject({
      generationConfig: {
        temperature: 0,
        topP: 0.9,
        topK: 20,
        stopSequences: ["#"],
        seed: 7,
        maxOutputTokens: 500,
      },
      safetySettings: [{ category: "HARM_CATEGORY_HARASSMENT", threshold: "BLOCK_NONE" }],
    });
  });

  test("[native.schema] a schema makes the text JSON of that form", async () => {
    const { text } = await ask({
      prompt: "Концерт 14 февраля в 19:00 в Доме офицеров, билеты от 600 рублей. Дай JSON.",
      response_schema: {
        type: "object",
        properties: { date: { type: "string" }, price: { type: "string" } },
        required: ["date", "price"],
      },
    });
    expect(JSON.parse(text)).toEqual({ date: expect.any(String), price: expect.any(String) });
  });
});

describe("a stream", () => {
  test("[native.stream] has its start, the text piece by piece, the usage and the end", async () => {
    const response = await call({ prompt: "Write 60 words about a concert", stream: true });
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    const names: string[] = [];
    for (const [, name] of (await response.text()).matchAll(/^event: (\w+)$/gm)) names.push(name!);
    expect(names[0]).toBe("started");
    expect(names.filter((name) => name === "delta").length).toBeGreaterThan(3);
    expect(names.slice(-2)).toEqual(["usage", "done"]);
  });

  test("[native.leaving] that its reader leaves ends upstream, and the books say so", async () => {
    const leaving = new AbortController();
    const response = await call({ prompt: "Write 3000 words about a concert", stream: true }, {
      signal: leaving.signal,
    });
    for await (const _ of readEvents(response.body!)) break;
    leaving.abort();
    await leftEarly(gateway);
  });
});

describe("the choice of a place", () => {
  test("[native.model] of several models the first that can start is taken", async () => {
    await gateway.sql`update public.google_ai_model_limits set rpm = 0 where model = ${SIGNING}`;
    try {
      expect((await ask({ model: [SIGNING, GEMMA], prompt: "Hello", mode: "no_wait" })).model).toBe(GEMMA);
    } finally {
      await gateway.sql`update public.google_ai_model_limits set rpm = 5 where model = ${SIGNING}`;
    }
  });

  test("[native.waiting] no_wait is refused at once, wait waits no longer than it may", async () => {
    // Two lanes with five starts each.
    for (let n = 0; n < 10; n++) await ask({ model: SIGNING, prompt: "Hello" });
    for (const terms of [{ mode: "no_wait" }, { max_wait_ms: 2_000 }]) {
      const response = await call({ model: SIGNING, prompt: "Hello", ...terms });
      expect(response.status).toBe(429);
      // Refused when it came, and not once the two seconds were over: the figure is of that moment.
      expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(2);
      expect((await response.json()).error).toMatchObject({ code: "rate_limited", retryable: true });
    }
  });

  test("[native.class native.metadata] class, metadata and the request's id are in the books", async () => {
    await ask({ prompt: "Hello", class: "batch", metadata: { post: 7 }, request_id: "festival-1" });
    await gateway.requests();
    expect(await gateway.sql`select class, metadata, request_id, endpoint from eve.requests`).toEqual([
      { class: "batch", metadata: { post: 7 }, request_id: "festival-1", endpoint: "native" },
    ]);
  });

  test("[native.request-id] asked again under its id it is answered from the books, and another question under it is refused", async () => {
    const first = await ask({ prompt: "Hello", request_id: "once" });
    await gateway.requests();
    const again = await call({ prompt: "Hello", request_id: "once" });
    expect(again.headers.get("x-eve-replayed")).toBe("true");
    expect((await again.json()).text).toBe(first.text);
    const other = await call({ prompt: "Something else", request_id: "once" });
    expect([other.status, (await other.json()).error.code]).toEqual([409, "request_id_reused"]);
    expect((await gateway.stats()).received.byMethod.generateContent).toBe(1);
  });
});

describe("what cannot be", () => {
  test.each<[string, object, number, string]>([
    ["a field that is not in the table", { prompt: "x", temperatur: 1 }, 400, "invalid_request"],
    ["a model that only embeds", { model: EMBEDDING, prompt: "x" }, 400, "unsupported_feature"],
    ["a prompt that can never pass", { prompt: "слово ".repeat(20_000) }, 413, "prompt_too_large"],
    [
      "a repair of a stream",
      { prompt: "x", response_schema: {}, schema_repair: true, stream: true },
      400,
      "invalid_request",
    ],
  ])("[native.invalid] %s is told at once, by its name", async (_, body, status, code) => {
    const response = await call(body);
    expect([response.status, (await response.json()).error.code]).toEqual([status, code]);
    expect((await gateway.stats()).received.total).toBe(0);
  });
});
