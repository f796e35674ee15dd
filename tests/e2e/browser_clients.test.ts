/** OpenAI's and Google's own packages in a page of another origin: what they ask for in a preflight, they get. */
import { build } from "vite";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CHECKOUT } from "../../local/paths.ts";
import { chromiumPath, openBrowser, openPage } from "../console/browser.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";
import type { Packages } from "./browser_page.ts";

let stack: TestStack;
let address: string;
beforeAll(async () => {
  stack = await startTestStack({ emulator: { latencyMs: 5, chunkDelayMs: 5 } });
  address = `${stack.url}/functions/v1/llm-invoke`;
});
afterAll(() => stack?.stop());

/** A page of another origin that has the packages, in one browser. */
interface OpenPage {
  evaluate<T>(script: (given: Given) => Promise<T>, given: Given): Promise<T>;
  /** What went wrong in it. */
  problems: string[];
  close(): Promise<void>;
}

let site: Deno.HttpServer<Deno.NetAddr>;
let siteUrl: string;
beforeAll(async () => {
  const script = await bundled("tests/e2e/browser_page.ts");
  // Another port is another origin.
  site = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen: () => {} },
    (request) =>
      new URL(request.url).pathname === "/page.js"
        ? new Response(script, { headers: { "content-type": "text/javascript" } })
        : new Response(`<!doctype html><script type="module" src="/page.js"></script>`, {
          headers: { "content-type": "text/html" },
        }),
  );
  siteUrl = `http://127.0.0.1:${site.addr.port}/`;
});
afterAll(() => site?.shutdown());

/** CI has a Chromium, so there nothing of it is skipped. */
const HAS_CHROMIUM = Deno.env.get("CI") !== undefined || chromiumPath() !== undefined;

describe.skipIf(!HAS_CHROMIUM)("in Chromium", () => {
  clientsIn(async () => {
    const browser = await openBrowser();
    const { page, problems } = await openPage(browser);
    await page.goto(siteUrl, { waitUntil: "load" });
    await page.waitForFunction("'OpenAI' in window");
    return {
      evaluate: (script, given) => page.evaluate(script, given),
      problems,
      close: () => browser.close(),
    };
  });
});

/** Where it is named, as CI does: a second browser takes its time, and few have it. */
const FIREFOX = Deno.env.get("EVE_FIREFOX");

if (FIREFOX !== undefined) {
  describe("in Firefox, which EVE_FIREFOX names", () => {
    clientsIn(async () => {
      const { launch } = await import("puppeteer-core");
      const browser = await launch({ browser: "firefox", executablePath: FIREFOX, headless: true });
      const page = await browser.newPage();
      const problems: string[] = [];
      page.on("pageerror", (error) => problems.push(String(error)));
      await page.goto(siteUrl, { waitUntil: "load" });
      await page.waitForFunction("'OpenAI' in window");
      expect(await browser.version()).toMatch(/firefox/i);
      return {
        evaluate: (script, given) => page.evaluate(script, given),
        problems,
        close: () => browser.close(),
      };
    });
  });
}

function clientsIn(opening: () => Promise<OpenPage>): void {
  let open: OpenPage;
  beforeAll(async () => {
    open = await opening();
  });
  afterAll(async () => {
    await open?.close();
    expect(open?.problems).toEqual([]);
  });

  /** Runs in the page. It sees nothing of this file but what it is given. */
  const inPage = <T>(script: (given: Given) => Promise<T>): Promise<T> =>
    open.evaluate(script, { address, key: stack.keys.secret, model: "gemma-4-31b-it" });

  test("[openai.browser] openai's stream() streams, tools too", async () => {
    const { pieces, text, called } = await inPage(async ({ address, key, model }) => {
      const { OpenAI } = globalThis as unknown as Packages;
      const client = new OpenAI({
        apiKey: key,
        baseURL: `${address}/openai/v1`,
        dangerouslyAllowBrowser: true,
      });
      const stream = client.chat.completions.stream({
        model,
        messages: [{ role: "user", content: "Reply with exactly: концерт в парке" }],
      });
      let pieces = 0;
      stream.on("content", () => pieces++);
      const text = await stream.finalContent();
      const tools = client.chat.completions.stream({
        model,
        messages: [{ role: "user", content: "Use find_weather for Kaliningrad" }],
        tools: [{
          type: "function",
          function: {
            name: "find_weather",
            parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
          },
        }],
      });
      const { message } = (await tools.finalChatCompletion()).choices[0]!;
      return { pieces, text, called: message.tool_calls?.map((call) => Object(call).function.name) };
    });
    expect(text).toBe("концерт в парке");
    expect(pieces).toBeGreaterThan(0);
    expect(called).toEqual(["find_weather"]);
  });

  test("[openai.browser] openai's parse() answers an object", async () => {
    const parsed = await inPage(async ({ address, key, model }) => {
      const { OpenAI, z, zodResponseFormat } = globalThis as unknown as Packages;
      const client = new OpenAI({
        apiKey: key,
        baseURL: `${address}/openai/v1`,
        dangerouslyAllowBrowser: true,
      });
      const answer = await client.chat.completions.parse({
        model,
        messages: [{ role: "user", content: "Концерт группы «Бульвар» 12 июля 2026 в 20:00, бар «Форма»" }],
        response_format: zodResponseFormat(z.object({ title: z.string(), date: z.string() }), "event"),
      });
      return answer.choices[0]!.message.parsed;
    });
    expect(parsed).toEqual({
      title: expect.stringContaining("Бульвар"),
      date: expect.stringContaining("2026-07-12"),
    });
  });

  test("[openai.browser] errors are read, with their ids, and what there is not is not found", async () => {
    const [refused, missing] = await inPage(async ({ address, key, model }) => {
      const { OpenAI } = globalThis as unknown as Packages;
      const client = (apiKey: string) =>
        new OpenAI({ apiKey, baseURL: `${address}/openai/v1`, dangerouslyAllowBrowser: true });
      const errorOf = ({ status, code, requestID }: InstanceType<typeof OpenAI.APIError>) => ({
        status,
        code,
        requestID,
      });
      const messages = [{ role: "user" as const, content: "Hello" }];
      return [
        await client("wrong").chat.completions.create({ model, messages }).then(() => null, errorOf),
        await client(key).files.delete("file-1").then(() => null, errorOf),
      ];
    });
    expect(refused).toEqual({ status: 401, code: "invalid_api_key", requestID: expect.any(String) });
    expect(missing).toMatchObject({ status: 404, requestID: expect.any(String) });
  });

  test("[gemini.browser] @google/genai generates and streams", async () => {
    const { text, streamed } = await inPage(async ({ address, key, model }) => {
      const { GoogleGenAI } = globalThis as unknown as Packages;
      const { models } = new GoogleGenAI({ apiKey: key, httpOptions: { baseUrl: address } });
      const { text } = await models.generateContent({ model, contents: "Reply with exactly: концерт" });
      const chunks = await models.generateContentStream({
        model,
        contents: "Reply with exactly: фестиваль на острове",
      });
      let streamed = "";
      for await (const chunk of chunks) streamed += chunk.text ?? "";
      return { text, streamed };
    });
    expect(text).toBe("концерт");
    expect(streamed).toBe("фестиваль на острове");
  });
}

describe("in Firefox, which counts user-agent among the headers to be asked for", () => {
  test.each([
    ["POST", "/v1beta/models/gemma-4-31b-it:generateContent", "user-agent,x-goog-api-client,x-goog-api-key"],
    ["POST", "/openai/v1/chat/completions", "authorization,user-agent,x-stainless-helper-method"],
    ["DELETE", "/openai/v1/files/file-1", "authorization,user-agent"],
  ])("[openai.browser gemini.browser] %s %s may carry %s", async (method, path, names) => {
    const response = await fetch(`${address}${path}`, {
      method: "OPTIONS",
      headers: {
        "origin": "https://page.example",
        "access-control-request-method": method,
        "access-control-request-headers": names,
      },
    });
    expect(response.status).toBe(204);
    const listed = (name: string) => response.headers.get(name)!.split(/, ?/);
    expect(response.headers.get("access-control-allow-origin")).toBe("*");
    expect(listed("access-control-allow-headers")).toEqual(names.split(","));
    expect(listed("access-control-allow-methods")).toContain(method);
  });

  test("the token endpoint answers the same, the admin API as before", async () => {
    const asked = {
      "origin": "https://page.example",
      "access-control-request-method": "POST",
      "access-control-request-headers": "content-type,user-agent",
    };
    const ask = async (name: string) => {
      const { headers } = await fetch(`${stack.url}/functions/v1/${name}`, {
        method: "OPTIONS",
        headers: asked,
      });
      return [headers.get("access-control-allow-origin"), headers.get("access-control-allow-headers")];
    };
    expect(await ask("issue-kaggle-token")).toEqual(["*", "content-type, user-agent"]);
    expect(await ask("admin/me")).toEqual([null, expect.not.stringContaining("user-agent")]);
  });
});

interface Given {
  address: string;
  key: string;
  model: string;
}

/** A module and its packages as one script, as a page's bundler makes it. */
async function bundled(path: string): Promise<string> {
  const built = await build({
    root: CHECKOUT,
    configFile: false,
    logLevel: "error",
    build: {
      write: false,
      minify: false,
      lib: { entry: `${CHECKOUT}/${path}`, formats: ["es"], fileName: "page" },
    },
  });
  const [{ output }] = built as unknown as [{ output: [{ code: string }] }];
  return output[0].code;
}
