import { afterEach, describe, expect, test } from "vitest";
import type { Prompt } from "../../../shared/contract/content.ts";
import { googleProvider } from "../../../shared/providers/google/provider.ts";
import { ProviderFailure } from "../../../shared/providers/provider.ts";

const SECRET = "not-a-real-key";
const PROMPT: Prompt = { contents: [{ role: "user", parts: [{ text: "Привет" }] }] };
const ANSWER = {
  candidates: [{
    content: {
      role: "model",
      parts: [{ text: "Hmm", thought: true }, { text: "Здравствуйте", thoughtSignature: "AA==" }],
    },
    finishReason: "STOP",
    index: 0,
  }],
  usageMetadata: { promptTokenCount: 4, candidatesTokenCount: 3, totalTokenCount: 7 },
  modelVersion: "gemma-4-31b-it",
  aFieldOfTomorrow: { kept: true },
};

/** A real HTTP server in Google's place: what is tested is the wire. */
let servers: Deno.HttpServer[] = [];
function upstream(answer: (request: Request) => Response | Promise<Response>): string {
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, answer);
  servers.push(server);
  return `http://127.0.0.1:${(server.addr as Deno.NetAddr).port}`;
}
afterEach(async () => {
  await Promise.all(servers.map((server) => server.shutdown()));
  servers = [];
});

function generate(baseUrl: string, prompt = PROMPT, signal = new AbortController().signal) {
  return googleProvider({ baseUrl }).text.generate({
    model: "gemma-4-31b-it",
    secret: SECRET,
    prompt,
    signal,
  });
}

async function failureAt(baseUrl: string): Promise<ProviderFailure> {
  const thrown = await generate(baseUrl).then(() => null, (error) => error);
  expect(thrown).toBeInstanceOf(ProviderFailure);
  return thrown as ProviderFailure;
}

describe("a count", () => {
  const count = (baseUrl: string, prompt = PROMPT) =>
    googleProvider({ baseUrl }).text.countTokens!({
      model: "gemma-4-31b-it",
      secret: SECRET,
      prompt,
      signal: new AbortController().signal,
    });

  test("is of the whole prompt: system text, tools and all", async () => {
    const prompt: Prompt = { ...PROMPT, systemInstruction: { parts: [{ text: "Кратко." }] }, tools: [{}] };
    let seen: { path: string; body: unknown } | undefined;
    const counted = await count(
      upstream(async (request) => {
        seen = { path: new URL(request.url).pathname, body: await request.json() };
        return Response.json({ totalTokens: 31, promptTokensDetails: [] });
      }),
      prompt,
    );
    expect(counted).toBe(31);
    expect(seen).toEqual({
      path: "/v1beta/models/gemma-4-31b-it:countTokens",
      body: { generateContentRequest: { ...prompt, model: "models/gemma-4-31b-it" } },
    });
  });

  test.each([[{}], [{ totalTokens: -1 }], [{ totalTokens: "31" }], [{
    error: { code: 500, message: "no" },
  }]])(
    "%j is none",
    async (body) => {
      await expect(count(upstream(() => Response.json(body)))).rejects.toBeInstanceOf(ProviderFailure);
    },
  );
});

describe("what goes out", () => {
  test("the key is in a header, and nowhere else", async () => {
    let seen: { url: string; key: string | null; body: string } | undefined;
    await generate(upstream(async (request) => {
      seen = { url: request.url, key: request.headers.get("x-goog-api-key"), body: await request.text() };
      return Response.json(ANSWER);
    }));
    expect(seen?.key).toBe(SECRET);
    expect(new URL(seen?.url ?? "").pathname).toBe("/v1beta/models/gemma-4-31b-it:generateContent");
    expect(seen?.url).not.toContain(SECRET);
    expect(seen?.body).not.toContain(SECRET);
  });

  test("the prompt arrives whole, unknown fields included, and the caller's own is left as it was", async () => {
    const prompt: Prompt = {
      contents: [{ role: "model", parts: [{ functionCall: { name: "f" }, thoughtSignature: "AA==" }] }],
      systemInstruction: { parts: [{ text: "Кратко." }] },
      tools: [{ functionDeclarations: [{ name: "f" }] }],
      toolConfig: { functionCallingConfig: { mode: "ANY" } },
      generationConfig: { temperature: 0, responseJsonSchema: { type: "object" } },
      aFieldOfTomorrow: 1,
    };
    const before = structuredClone(prompt);
    let body: Record<string, unknown> = {};
    await generate(
      upstream(async (request) => {
        body = await request.json();
        return Response.json(ANSWER);
      }),
      prompt,
    );
    expect(body).toMatchObject(before);
    expect(prompt).toEqual(before);
  });
});

describe("what comes back", () => {
  test("the answer as it was sent, with its usage and its verdict", async () => {
    const served = await generate(upstream(() => Response.json(ANSWER)));
    expect(served.answer).toEqual(ANSWER);
    expect(served.verdict).toEqual({ ok: true });
    expect(served.finishReason).toBe("STOP");
    expect(served.usage).toMatchObject({ inputTokens: 4, outputTokens: 3 });
  });

  test("an error in a body with status 200 is an error", async () => {
    const error = {
      code: 503,
      message: "The model is overloaded. Please try again later.",
      status: "UNAVAILABLE",
    };
    const failure = await failureAt(upstream(() => Response.json({ error })));
    expect(failure.upstreamStatus).toBe(503);
    expect(failure.diagnosis).toMatchObject({ fault: "nobody", retryable: true });
  });

  test("every error of the fixtures is understood as the classification says, through the library too", async () => {
    const folder = new URL("../../fixtures/google/errors/", import.meta.url);
    for (const { name } of Deno.readDirSync(folder)) {
      const { status, body, diagnosis } = JSON.parse(Deno.readTextFileSync(new URL(name, folder)));
      const failure = await failureAt(upstream(() => Response.json(body, { status })));
      expect({ name, status: failure.upstreamStatus, diagnosis: failure.diagnosis }).toEqual({
        name,
        status,
        diagnosis,
      });
    }
  });

  test("its message is Google's alone: no address, no library", async () => {
    const message = "Please use a valid role: user, model.";
    const body = { error: { code: 400, message, status: "INVALID_ARGUMENT" } };
    expect((await failureAt(upstream(() => Response.json(body, { status: 400 })))).message).toBe(message);
  });

  test("a key that upstream repeats goes no further", async () => {
    const message =
      `Permission denied: Consumer 'api_key:${SECRET}' has been suspended. ${SECRET} api_key:another`;
    const details = [{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: "CONSUMER_SUSPENDED" }];
    const failure = await failureAt(
      upstream(() => Response.json({ error: { code: 403, message, details } }, { status: 403 })),
    );
    expect(failure.message).toContain("has been suspended");
    expect(Deno.inspect(failure, { depth: 10 })).not.toContain(SECRET);
    expect(failure.message).not.toContain("another");
  });

  test.each([
    ["an HTML page", () => new Response("<h1>502 Bad Gateway</h1>", { status: 502 })],
    ["a body that is no JSON", () => new Response("oops")],
    ["a body that breaks off", () => new Response('{"candidates":[{"content"')],
    ["an empty body", () => new Response("")],
  ])("%s fault nobody and may be retried", async (_, answer) => {
    expect((await failureAt(upstream(answer))).diagnosis).toEqual({
      fault: "nobody",
      retryable: true,
      block: null,
      code: "upstream_unavailable",
    });
  });

  test("an upstream that is not there fault nobody", async () => {
    const free = Deno.listen({ port: 0, hostname: "127.0.0.1" });
    const { port } = free.addr as Deno.NetAddr;
    free.close();
    expect((await failureAt(`http://127.0.0.1:${port}`)).diagnosis.fault).toBe("nobody");
  });
});

describe("abort", () => {
  test("a signal that has already aborted sends nothing", async () => {
    let calls = 0;
    const url = upstream(() => {
      calls++;
      return Response.json(ANSWER);
    });
    await expect(generate(url, PROMPT, AbortSignal.abort(new Error("gone")))).rejects.toThrow("gone");
    expect(calls).toBe(0);
  });

  test("a signal that aborts meanwhile ends the upstream request", async () => {
    const controller = new AbortController();
    const arrived = Promise.withResolvers<void>();
    const dropped = Promise.withResolvers<void>();
    const url = upstream((request) => {
      request.signal.addEventListener("abort", () => dropped.resolve());
      arrived.resolve();
      return dropped.promise.then(() => new Response());
    });
    const call = generate(url, PROMPT, controller.signal).catch((error) => error);
    await arrived.promise;
    controller.abort(new Error("gone"));
    expect(await call).toMatchObject({ message: "gone" });
    await dropped.promise;
  });
});

test.each([
  { candidates: 5 },
  { candidates: null },
  { candidates: [null] },
  { candidates: [{ content: [], finishReason: "STOP" }] },
  { candidates: [{ content: { parts: [null] } }] },
  { candidates: [{ content: { parts: [{ text: 5 }] } }] },
  { candidates: [{ finishReason: 1 }] },
  { promptFeedback: "SAFETY" },
  { usageMetadata: 5 },
])("an answer of another form is upstream's failure, whole or as a chunk: %j", async (answer) => {
  const upstreams = { code: "upstream_unavailable", retryable: true };
  const whole = upstream(() => Response.json(answer));
  expect((await failureAt(whole)).diagnosis).toMatchObject(upstreams);
  const chunked = upstream(() => new Response(`data: ${JSON.stringify(answer)}\n\n`));
  const { signal } = new AbortController();
  const pieces = googleProvider({ baseUrl: chunked }).text.stream({
    model: "m",
    secret: SECRET,
    prompt: PROMPT,
    signal,
  });
  await expect(pieces.next()).rejects.toMatchObject({ diagnosis: upstreams });
});
