/** Contents that Google keeps, as `@google/genai` asks for them; and what is refused in words. */
import { ApiError, type CachedContent, GoogleGenAI, type HttpOptions } from "@google/genai";
import { Socket } from "node:net";
import { describe, expect, test } from "vitest";
import { until } from "../../harness/patience.ts";
import { GEMMA, type TestGateway } from "../test_gateway.ts";

const KEEPS = "gemini-3.5-flash-lite";
/** Above what Google keeps at least. */
const PROGRAMME = "Концерт в парке, 8 августа в 18:00. ".repeat(150);

export function cachedContents(gateway: () => TestGateway): void {
  const client = (options: HttpOptions = {}, apiKey = gateway().key) =>
    new GoogleGenAI({ apiKey, httpOptions: { baseUrl: gateway().baseUrl, ...options } });
  const errorOf = async (answer: Promise<unknown>) => {
    const error = await answer.then(() => expect.unreachable(), (thrown) => thrown as ApiError);
    return JSON.parse(error.message).error;
  };
  const create = (ai = client()) =>
    ai.caches.create({
      model: KEEPS,
      config: { contents: PROGRAMME, systemInstruction: "Кратко.", displayName: "programme", ttl: "600s" },
    });
  const ask = (cached: CachedContent, ai = client()) =>
    ai.models.generateContent({
      model: KEEPS,
      contents: "Reply with exactly: yes",
      config: { cachedContent: cached.name! },
    });
  /** Of upstream's calls, by which project each was made. */
  const projects = async () => {
    const seen = await (await fetch(`${gateway().stack.emulatorUrl}/__control/requests`)).json();
    return seen.map(({ method, project }: Record<string, string>) => [method, project]);
  };

  describe("@google/genai", () => {
    test("[gemini.caches] makes, lists, shows, extends and deletes caches; a prompt that names one goes where it is", async () => {
      const ai = client();
      const made = await create(ai);
      expect(made).toMatchObject({ model: `models/${KEEPS}`, displayName: "programme" });
      const tokens = made.usageMetadata!.totalTokenCount!;
      expect(tokens).toBeGreaterThan(1_024);

      // All other calls go elsewhere from now on.
      const prefer = (more: number) =>
        gateway().sql`
          update public.google_ai_api_keys set priority = priority + ${more}
          where quota_key = (select quota_key from eve.cached_contents where expires_at > eve.clock())`;
      await prefer(1_000);
      try {
        for (let n = 0; n < 4; n++) {
          const answer = await ask(made, ai);
          expect(answer.text).toBe("yes");
          expect(answer.usageMetadata?.cachedContentTokenCount).toBe(tokens);
        }
      } finally {
        await prefer(-1_000);
      }
      const home = (await projects())[0][1];
      expect(new Set((await projects()).map(([, project]: string[]) => project))).toEqual(new Set([home]));

      const listed: CachedContent[] = [];
      for await (const one of await ai.caches.list({ config: { pageSize: 1 } })) listed.push(one);
      expect(listed.map(({ name }) => name)).toEqual([made.name]);
      expect(await ai.caches.get({ name: made.name! })).toMatchObject({
        name: made.name,
        displayName: "programme",
      });
      const extended = await ai.caches.update({ name: made.name!, config: { ttl: "1200s" } });
      expect(Date.parse(extended.expireTime!)).toBeGreaterThan(Date.parse(made.expireTime!));
      expect((await ai.caches.get({ name: made.name! })).expireTime).toBe(extended.expireTime);
      await ai.caches.delete({ name: made.name! });
      expect(await errorOf(ask(made, ai))).toMatchObject({ code: 404, status: "NOT_FOUND" });

      // Booked with the tokens that Google counts, the kept ones included.
      await gateway().requests();
      const used = await gateway().sql`select prompt_tokens from public.token_usage order by ts`;
      expect(used.map(({ prompt_tokens }) => prompt_tokens >= tokens)).toEqual([
        true,
        true,
        true,
        true,
        true,
      ]);
    });

    test("[gemini.caches] finds no cache of others, nor one that Google alone knows", async () => {
      const made = await create();
      const added = await gateway().stack.invoke("admin/consumers/add", { name: "caches", kind: "service" });
      const consumer = (await added.json()).secret;
      expect(await errorOf(ask(made, client({}, consumer)))).toMatchObject({
        code: 404,
        status: "NOT_FOUND",
      });
      expect(await errorOf(client({}, consumer).caches.delete({ name: made.name! }))).toMatchObject({
        code: 404,
      });
      expect(await errorOf(ask({ name: "cachedContents/festival" }))).toMatchObject({
        code: 404,
        message: expect.stringContaining("made through the gateway"),
      });
      await client().caches.delete({ name: made.name! });
    });

    test("[gemini.caches] is refused in words what cannot be cached, and gets answers as before", async () => {
      const ai = client();
      const kept = (model: string, contents: string, ttl = "600s") =>
        errorOf(ai.caches.create({ model, config: { contents, ttl } }));
      expect(await kept(KEEPS, "short")).toMatchObject({ code: 400, message: /too small/ });
      expect(await kept(GEMMA, PROGRAMME)).toMatchObject({ code: 400, message: /createCachedContent/ });
      expect(await kept(KEEPS, PROGRAMME, "90000s")).toMatchObject({ code: 400, message: /at most 86400/ });
      await gateway().faults({
        kind: "status",
        error: "no_cache_storage",
        times: null,
        match: { method: "createCachedContent" },
      } as never);
      expect(await kept(KEEPS, PROGRAMME)).toMatchObject({ code: 400, message: /FreeTier limit exceeded/ });
      for (const model of [KEEPS, GEMMA]) {
        const answer = await ai.models.generateContent({ model, contents: "Reply with exactly: yes" });
        expect(answer.text).toBe("yes");
      }
      expect(await gateway().sql`select from eve.key_model_blocks`).toHaveLength(0);
    });

    test("[gemini.caches] learns that a cache is gone at Google, and no key is blocked for it", async () => {
      const made = await create();
      await fetch(`${gateway().stack.emulatorUrl}/__control/reset`, { method: "POST", body: "{}" });
      expect(await errorOf(ask(made))).toMatchObject({ code: 400, message: /CachedContent not found/ });
      expect(await gateway().sql`select from eve.key_model_blocks`).toHaveLength(0);
    });
    test("[gemini.not-here] is refused interactions in words", async () => {
      const interaction = client().interactions.create({ model: GEMMA, input: "Hello" });
      await expect(interaction).rejects.toThrow(/Interactions are not offered here/);
    });

    test("[gemini.not-here] is refused Live in words, by a WebSocket too", async () => {
      const url = new URL(gateway().baseUrl);
      const path = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";
      const socket = new Socket();
      let said = "";
      socket.setEncoding("utf8").on("data", (piece) => said += piece).on("error", () => {});
      socket.connect(Number(url.port), url.hostname);
      socket.write([
        `GET ${url.pathname}${path} HTTP/1.1`,
        `host: ${url.host}`,
        "connection: Upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        `x-goog-api-key: ${gateway().key}`,
        "\r\n",
      ].join("\r\n"));
      await until(() => Promise.resolve(said.includes("keeps no sessions open")), "no answer to an upgrade")
        .finally(() => socket.destroy());
      expect(said).toMatch(/^HTTP\/1\.1 404 /);
      expect(said).toContain('"NOT_FOUND"');
    });
  });
}
