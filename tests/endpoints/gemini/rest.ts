/** The API without a client library: scripts, and what older libraries put on the wire. */
import { describe, expect, test } from "vitest";
import { BUSY_FOR_A_SECOND, EMBEDDING, GEMMA, leftEarly } from "../test_gateway.ts";
import type { OpenedGateway } from "../opened_gateway.ts";
import { until } from "../../harness/patience.ts";
import { hasProgram } from "../../harness/programs.ts";

const asking = (text: string) => ({ contents: [{ role: "user", parts: [{ text }] }] });
const generate = `/v1beta/models/${GEMMA}:generateContent`;
const stream = `/v1beta/models/${GEMMA}:streamGenerateContent`;

export function rest(gateway: () => OpenedGateway): void {
  const bare = (path: string, headers: Record<string, string> = {}) =>
    fetch(`${gateway().baseUrl}${path}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(asking("Reply with exactly: да")),
    });
  const everythingPrinted = () => [...gateway().stack.printed, ...gateway().stack.logged].join("\n");

  describe("REST", () => {
    test.skipIf(!hasProgram("python3"))(
      "[gemini.quota] a notebook asks with Python's standard library",
      async () => {
        await gateway().faults(BUSY_FOR_A_SECOND);
        const { stdout, stderr, success } = await new Deno.Command("python3", {
          args: [new URL("notebook.py", import.meta.url).pathname],
          env: { GEMINI_BASE_URL: gateway().baseUrl, GEMINI_API_KEY: gateway().key },
        }).output();
        expect(new TextDecoder().decode(stderr)).toBe("");
        expect(success).toBe(true);
        expect(JSON.parse(new TextDecoder().decode(stdout))).toEqual({
          event: { date: expect.any(String), ticket_price: expect.any(String) },
          chunks: expect.any(Number),
          refusal: { code: 400, status: "INVALID_ARGUMENT" },
        });
      },
    );

    test("[gemini.key-places] takes the key as x-goog-api-key, as ?key= and as Bearer", async () => {
      const { key } = gateway();
      for (
        const [query, headers] of [
          ["", { "x-goog-api-key": key }],
          [`?key=${key}`, {}],
          ["", { authorization: `Bearer ${key}` }],
          [`?key=${key}`, { "x-goog-api-key": key, "authorization": `Bearer ${key}` }],
        ] as const
      ) expect((await bare(`${generate}${query}`, headers)).status).toBe(200);
    });

    test("[gemini.key-places] a bad key beside a good one is refused, and no key is ever printed or repeated", async () => {
      const { key } = gateway();
      const refused = await bare(`${generate}?key=AIza-not-a-key`, { "x-goog-api-key": key });
      expect(refused.status).toBe(401);
      expect(await refused.text()).not.toContain("AIza-not-a-key");
      await gateway().faults({ kind: "status", error: "invalid_argument" });
      const failed = await bare(`${generate}?key=${key}`);
      expect(failed.status).toBe(400);
      expect(await failed.text()).not.toContain(key);
      await until(
        () => everythingPrinted().includes("attempt_failed"),
        "nothing was logged",
      );
      expect(everythingPrinted()).not.toContain("AIza-not-a-key");
      expect(everythingPrinted()).not.toContain(key);
    });

    test("[gemini.array-stream] without alt=sse a stream is one JSON array", async () => {
      const response = await gateway().fetch(stream, asking("Write 60 words about a concert"));
      expect(response.headers.get("content-type")).toContain("application/json");
      const chunks = await response.json();
      expect(chunks.length).toBeGreaterThan(3);
      expect(chunks.at(-1).candidates[0].finishReason).toBe("STOP");
    });

    test("[gemini.stream] with alt=sse it is frames of data, without comments and without an end mark", async () => {
      const response = await gateway().fetch(`${stream}?alt=sse`, asking("Write 60 words about a concert"));
      expect(response.headers.get("content-type")).toBe("text/event-stream");
      const frames = (await response.text()).split("\r\n\r\n");
      expect(frames.pop()).toBe("");
      for (const frame of frames) expect(frame).toMatch(/^data: \{.*\}$/);
    });

    test("[gemini.stream] the first chunk is there long before the last", async () => {
      const leaving = new AbortController();
      // More than a busy machine sends before it is asked whether it still does.
      const response = await gateway().fetch(
        `${stream}?alt=sse`,
        asking("Write 3000 words about a concert"),
        {
          signal: leaving.signal,
        },
      );
      expect((await response.body!.getReader().read()).done).toBe(false);
      expect((await gateway().stats()).inFlight).toBe(1);
      leaving.abort();
      await leftEarly(gateway());
    });

    test("[gemini.leaving] a client that closes the connection is noticed upstream", async () => {
      const leaving = new AbortController();
      const response = await gateway().fetch(
        `${stream}?alt=sse`,
        asking("Write 3000 words about a concert"),
        {
          signal: leaving.signal,
        },
      );
      const reader = response.body!.getReader();
      await reader.read();
      leaving.abort();
      await leftEarly(gateway());
    });

    test("[gemini.leaving] a client that leaves before anything was said is noticed too", async () => {
      for (const path of [generate, stream]) {
        await gateway().clear();
        await gateway().faults({ kind: "hang" });
        const leaving = new AbortController();
        const asked = gateway().fetch(path, asking("Hello"), { signal: leaving.signal });
        await until(async () => (await gateway().stats()).inFlight === 1, "nothing was asked upstream");
        leaving.abort();
        await expect(asked).rejects.toThrow();
        await until(async () => (await gateway().stats()).aborted.waiting === 1, "upstream still waits");
        expect(await gateway().requests()).toMatchObject([{ state: "cancelled" }]);
      }
    });

    test("[gemini.stream-error] an error in the middle of an array stream is its last element", async () => {
      await gateway().faults({ kind: "mid_stream_error", afterChunks: 2, error: "overloaded" });
      const chunks = await (await gateway().fetch(stream, asking("Write 200 words about a concert"))).json();
      expect(chunks).toHaveLength(3);
      expect(chunks[2].error).toMatchObject({ code: 503, status: "UNAVAILABLE" });
    });

    test("[gemini.early-error] an error before the first chunk is an error for every client, not an array", async () => {
      await gateway().faults({ kind: "status", error: "invalid_argument" });
      const response = await gateway().fetch(stream, asking("Hello"));
      expect(response.status).toBe(400);
      expect((await response.json()).error).toMatchObject({ code: 400, status: "INVALID_ARGUMENT" });
    });

    test("[gemini.int-enums] enums are numbers for older clients that ask for them", async () => {
      const query = "?%24alt=json%3Benum-encoding%3Dint";
      const whole = await (await gateway().fetch(`${generate}${query}`, asking("Hello"))).json();
      expect(whole.candidates[0].finishReason).toBe(1);
      // They send them so, too.
      const settings = { safetySettings: [{ category: 7, threshold: 4 }] };
      expect((await gateway().fetch(`${generate}${query}`, { ...asking("Hello"), ...settings })).status).toBe(
        200,
      );
      expect(whole.usageMetadata.promptTokensDetails[0].modality).toBe(1);
      const chunks = await (await gateway().fetch(`${stream}${query}`, asking("Hello"))).json();
      expect(chunks.at(-1).candidates[0].finishReason).toBe(1);
    });

    test("[gemini.snake-case] snake_case and single messages mean the same", async () => {
      const response = await gateway().fetch(`/v1/models/${GEMMA}:generateContent`, {
        contents: { parts: { text: "Reply with exactly: концерт" } },
        system_instruction: { parts: { text: "Кратко." } },
        generation_config: { max_output_tokens: 500, thinking_config: { thinking_level: "MINIMAL" } },
      });
      const answer = await response.json();
      expect(answer.candidates[0].content.parts.at(-1).text).toBe("концерт");
    });

    test("[gemini.unknown-fields] what goes upstream is what the client sent", async () => {
      const body = {
        ...asking("Hello"),
        safetySettings: [{ category: "HARM_CATEGORY_HARASSMENT", threshold: "BLOCK_NONE" }],
        toolConfig: { functionCallingConfig: { mode: "NONE" } },
        generationConfig: { temperature: 0, seed: 7, stopSequences: ["#"] },
        serviceTier: "standard",
      };
      expect((await gateway().fetch(generate, body)).status).toBe(200);
      expect(await gateway().bodies()).toEqual([body]);
    });

    test("[gemini.unknown-fields] fields of which nobody here knows go upstream too", async () => {
      const response = await gateway().fetch(generate, { ...asking("Hello"), labels: { team: "events" } });
      // Google AI refuses this one, Vertex takes it: it is theirs to say.
      expect(response.status).toBe(400);
      expect((await response.json()).error.message).toContain("labels");
      expect(await gateway().bodies()).toMatchObject([{ ...asking("Hello"), labels: { team: "events" } }]);
    });

    test("[gemini.successor] a successor serves for a model that has left, and the answer says so", async () => {
      const response = await gateway().fetch("/v1beta/models/gemma-3-27b:generateContent", asking("Hello"));
      expect(response.status).toBe(200);
      expect(response.headers.get("x-eve-model")).toBe(GEMMA);
      expect((await response.json()).modelVersion).toBe(GEMMA);
    });

    test("[gemini.repeated] a request asked twice under one id is answered once", async () => {
      const ask = () => gateway().fetch(`${generate}?x-eve-request-id=event-42`, asking("Hello"));
      const first = await (await ask()).json();
      await gateway().requests();
      const second = await ask();
      expect(second.headers.get("x-eve-replayed")).toBe("true");
      expect(await second.json()).toEqual(first);
      expect((await gateway().stats()).received.total).toBe(1);
    });

    test("[gemini.repeated] a stream asked twice under one id comes back in one piece", async () => {
      const ask = () =>
        gateway().fetch(`${stream}?x-eve-request-id=event-42`, asking("Reply with exactly: да"));
      expect((await (await ask()).json()).length).toBeGreaterThan(1);
      await gateway().requests();
      const second = await ask();
      expect(second.headers.get("x-eve-replayed")).toBe("true");
      const chunks = await second.json();
      expect(chunks).toHaveLength(1);
      expect(chunks[0].candidates[0].content.parts.at(-1).text).toBe("да");
      expect((await gateway().stats()).received.total).toBe(1);
    });

    test("[gemini.capability] a model asked for what it cannot do goes on doing what it can", async () => {
      const content = asking("Hello").contents[0];
      for (
        const [model, method, body] of [
          [GEMMA, "embedContent", { content }],
          [EMBEDDING, "generateContent", asking("Hello")],
          [EMBEDDING, "streamGenerateContent", asking("Hello")],
        ] as const
      ) {
        const refused = await gateway().fetch(`/v1beta/models/${model}:${method}`, body);
        expect(refused.status).toBe(400);
        expect((await refused.json()).error.message).toContain(model);
      }
      // At Google that is a 404, which would have switched the model off.
      expect((await gateway().stats()).received.total).toBe(0);
      expect((await gateway().fetch(generate, asking("Hello"))).status).toBe(200);
      expect((await gateway().fetch(`/v1beta/models/${EMBEDDING}:embedContent`, { content })).status).toBe(
        200,
      );
    });

    test("[gemini.waiting] unless it says otherwise a call waits for a place under the limits", async () => {
      await gateway().faults(BUSY_FOR_A_SECOND);
      const since = performance.now();
      const response = await gateway().fetch(generate, asking("Hello"));
      expect(response.status).toBe(200);
      expect(performance.now() - since).toBeGreaterThan(900);
      await gateway().requests();
      const [request] = await gateway().sql`select max(attempt)::int as attempts from eve.attempts`;
      expect(request!.attempts).toBe(3);
    });

    test("[gemini.too-large] a body that is too large is refused with 413", async () => {
      const response = await gateway().fetch(generate, asking("x".repeat(11 * 1024 * 1024)));
      expect(response.status).toBe(413);
      expect((await response.json()).error).toMatchObject({ code: 413, status: "INVALID_ARGUMENT" });
    });

    test("[gemini.batch-embed] a batch of embeddings counts as many requests as it has texts", async () => {
      const texts = ["концерт", "лекция", "выставка"];
      const response = await gateway().fetch(`/v1beta/models/${EMBEDDING}:batchEmbedContents`, {
        requests: texts.map((text) => ({ model: `models/${EMBEDDING}`, content: { parts: [{ text }] } })),
      });
      expect((await response.json()).embeddings).toHaveLength(3);
      await gateway().requests();
      const [booked] = await gateway().sql`select sum(starts)::int as starts from eve.lane_buckets`;
      expect(booked!.starts).toBe(3);
    });

    test("[gemini.models] counting tokens and listing models use no quota", async () => {
      expect((await gateway().fetch(`/v1beta/models/${GEMMA}:countTokens`, asking("Hello"))).status).toBe(
        200,
      );
      expect((await gateway().fetch("/v1beta/models")).status).toBe(200);
      expect((await gateway().fetch(`/v1/models/${GEMMA}`)).status).toBe(200);
      expect((await gateway().stats()).received.total).toBe(0);
      expect(await gateway().sql`select * from eve.lane_buckets`).toEqual([]);
    });

    test("[gemini.empty] an empty answer without a reason is an error, and an unknown model is not found", async () => {
      await gateway().faults({ kind: "empty_answer", shape: "no_parts", times: 3 });
      expect((await gateway().fetch(generate, asking("Hello"))).status).toBe(502);
      const unknown = await gateway().fetch("/v1beta/models/gemini-0:generateContent", asking("Hello"));
      expect(unknown.status).toBe(404);
      expect((await unknown.json()).error.status).toBe("NOT_FOUND");
    });
  });
}
