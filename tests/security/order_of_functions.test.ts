/**
 * Identity before body before network, at every address of every function as it is deployed: told by what was touched, never by
 * reading. `order_of_effects.test.ts` has what comes before the models in greater detail.
 */
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { FunctionName } from "../../shared/runtime/function_names.ts";
import { functionNames } from "../../local/functions_host.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { jpegOf, scene } from "../harness/made_pictures.ts";
import { type Address, ADDRESSES, EMBEDDING_MODEL, MODEL, sensibleRequest } from "./addresses.ts";
import { ACTORS, type DeployedActor, deployFunctions, type Effect, effectsOf, TELEGRAM } from "./deployed.ts";

const FUNCTIONS = [...new Set(ADDRESSES.map(({ fn }) => fn))];
/** Well above what makes a body a large one. */
const LARGE_BYTES = 400_000;

let served: Awaited<ReturnType<typeof deployFunctions>>;
beforeAll(async () => {
  // Each of these requests has a line in the log.
  for (const level of ["info", "warn", "error"] as const) vi.spyOn(console, level).mockReturnValue();
  served = await deployFunctions(FUNCTIONS);
});
afterAll(() => void vi.restoreAllMocks());

test("all functions are tried", async () => {
  expect([...FUNCTIONS].sort()).toEqual((await functionNames(`${CHECKOUT}/supabase/functions`)).sort());
});

interface Body {
  bytes: Uint8Array<ArrayBuffer>;
  type: string;
}

const utf8 = new TextEncoder();
const json = (value: unknown): Body => ({
  bytes: utf8.encode(JSON.stringify(value)) as Uint8Array<ArrayBuffer>,
  type: "application/json",
});
const PICTURE = jpegOf(scene(1, 16, 16));
async function form(
  fields: Record<string, string>,
  file: string,
  bytes: number,
  name = "a.jsonl",
): Promise<Body> {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) data.set(name, value);
  data.set(file, new File([PICTURE, new Uint8Array(bytes)], name, { type: "image/jpeg" }));
  const response = new Response(data);
  return {
    bytes: new Uint8Array(await response.arrayBuffer()),
    type: response.headers.get("content-type")!,
  };
}
const small = json({ prompt: "Hello" });
const large = json({ prompt: "x".repeat(LARGE_BYTES) });
const largeForm = await form({ purpose: "batch" }, "file", LARGE_BYTES);

function send(
  { fn, method, path }: Address,
  actor: DeployedActor,
  body: Body | null,
  { known = true, headers = {} }: { known?: boolean; headers?: Record<string, string> } = {},
) {
  const carries = method !== "GET" ? body : null;
  return effectsOf(served.get(fn)!, {
    method,
    url: `http://gateway/${fn}${path}`,
    headers: {
      ...(carries !== null && { "content-type": carries.type }),
      ...ACTORS[actor],
      ...headers,
    },
    body: carries?.bytes ?? null,
    known,
  });
}

/** Whose credential opens nothing, by function; a signed-in user has things of their own at `api`. */
const STRANGERS: readonly DeployedActor[] = [
  "nobody",
  "the publishable key",
  "a forged session",
  "a wrong consumer key",
  "an enrolment secret",
];
function strangersAt(fn: FunctionName): readonly DeployedActor[] {
  switch (fn) {
    case "api":
      return STRANGERS;
    case "llm-invoke":
      return [...STRANGERS, "an ordinary user"];
    default:
      return [
        ...STRANGERS,
        "an ordinary user",
        "a revoked token",
        "a notebook's token",
        "a consumer's key",
      ];
  }
}

const of = (fn: FunctionName) => ADDRESSES.filter((address) => address.fn === fn && !address.open);
const called = ({ method, pattern }: Address) => `${method} ${pattern}`;
/** The one whose credential is in its body. */
const TOKENS = "issue-kaggle-token";

describe.each(FUNCTIONS.filter((fn) => fn !== TOKENS))("%s", (fn) => {
  test("[security.order] a stranger is asked who they are, and nothing else happens", async () => {
    const addresses = of(fn);
    expect(addresses.length).toBeGreaterThan(0);
    for (const address of addresses) {
      for (const actor of strangersAt(fn)) {
        for (const body of [small, large, largeForm]) {
          const { effects, status } = await send(address, actor, body);
          const what = `${called(address)}, ${actor}`;
          expect.soft([401, 403], what).toContain(status);
          expect.soft(effects.filter((effect) => effect !== "identity"), what).toEqual([]);
        }
      }
    }
  });
});

/** Who is welcome, and may send bodies. */
const WELCOME: readonly DeployedActor[] = ["the project's key", "a consumer's key", "a notebook's token"];

describe.each(["llm-invoke", "api"] as const)("%s", (fn) => {
  test("[security.order] of a revoked token no large body is read, and nothing is fetched", async () => {
    let asked = 0;
    for (const address of of(fn)) {
      for (const body of [small, large, largeForm]) {
        const { effects, status } = await send(address, "a revoked token", body);
        const what = `${called(address)}, ${body.bytes.length} bytes: ${effects}`;
        expect.soft(effects, what).not.toContain("network");
        if (body !== small) expect.soft(effects, what).not.toContain("body");
        if (effects.includes("authorisation")) {
          asked++;
          expect.soft(status, what).toBe(401);
          expect.soft(effects, what).not.toContain("database");
        }
        expect.soft(status, what).toBeGreaterThanOrEqual(400);
      }
    }
    expect(asked).toBeGreaterThan(fn === "api" ? 4 : 20);
  });
});

/** What a request does in the order in which it is done: identity, then all of its body, and then what costs others something. */
function outOfOrder(effects: readonly Effect[]): boolean {
  const body = effects.lastIndexOf("body");
  const first = (kind: Effect) => effects.indexOf(kind) < 0 ? Infinity : effects.indexOf(kind);
  return first("identity") !== Infinity && body >= 0 && first("identity") > effects.indexOf("body") ||
    first("network") < body;
}

test("[security.order] nothing is fetched before a body is there, for anybody, at any address", async () => {
  for (const address of ADDRESSES.filter(({ open }) => !open)) {
    if (address.fn === TOKENS) continue;
    for (const actor of address.fn === "llm-invoke" || address.fn === "api" ? WELCOME : WELCOME.slice(0, 1)) {
      for (const body of [small, largeForm]) {
        const { effects } = await send(address, actor, body, { headers: TELEGRAM });
        expect.soft(outOfOrder(effects), `${called(address)}, ${actor}: ${effects}`).toBe(false);
      }
    }
  }
});

const requests = [{ custom_id: "a", params: { model: MODEL, max_tokens: 9, messages: [] } }];
/** Every kind of body that there is, in its own form, by the address that takes it. */
const BODIES: Record<string, () => Body | Promise<Body>> = {
  "llm-invoke POST /": () => json({ model: MODEL, prompt: "Hello" }),
  "llm-invoke POST /openai/v1/embeddings": () => json({ model: EMBEDDING_MODEL, input: "Hello" }),
  "llm-invoke POST /openai/v1/files": () => form({ purpose: "batch" }, "file", 300),
  "llm-invoke POST /openai/v1/uploads/:id/parts": () => form({}, "data", 300),
  "llm-invoke POST /openai/v1/audio/transcriptions": () => form({ model: MODEL }, "file", 300, "a.mp3"),
  "llm-invoke POST /openai/v1/batches": () =>
    json({
      input_file_id: `file-${"0".repeat(32)}`,
      endpoint: "/v1/responses",
      completion_window: "24h",
    }),
  "llm-invoke POST /anthropic/v1/messages/batches": () => json({ requests }),
  [`llm-invoke POST /v1beta/models/${EMBEDDING_MODEL}:batchEmbedContents`]: () =>
    json({ requests: [{ content: { parts: [{ text: "Hello" }] } }] }),
  [`llm-invoke POST /v1beta/models/${MODEL}:batchGenerateContent`]: () =>
    json({ batch: { inputConfig: { fileName: `files/${"0".repeat(32)}` } } }),
  "api POST /v1/media": () => ({
    bytes: utf8.encode("some bytes") as Uint8Array<ArrayBuffer>,
    type: "text/plain",
  }),
  "api POST /v1/intake/posts": () =>
    form({ post: JSON.stringify({ source: "test", external_id: "one", text: "Hello" }) }, "a", 300),
  "api POST /v1/vision/analyze": () => form({ request: JSON.stringify({ mode: "queue" }) }, "a", 300),
  "api POST /v1/crawl": () => json({ url: "https://example.com/", wait: false }),
  "api POST /v1/chats": () => json({ title: "one" }),
  "admin POST /providers/remove": () => json({ stage_type: "POEM" }),
  "maintenance POST /:operation": () => json({ source: "test" }),
  "telegram POST /": () => json({ update_id: 1, message: {} }),
  "telegram POST /replay": () => json({ update_ids: [1] }),
};

test.each(Object.keys(BODIES))(
  "[security.order] %s: the project's body is read, and what it asks for comes after it",
  async (name) => {
    const body = await BODIES[name]!();
    const address = ADDRESSES.find((one) => `${one.fn} ${called(one)}` === name)!;
    const { effects, status, text } = await send(address, "the project's key", body, { headers: TELEGRAM });
    const [first, next, ...more] = effects;
    expect([first, next], `${status} ${text}`).toEqual([
      "body",
      expect.stringMatching(/^(authorisation|database|network)$/),
    ]);
    expect(more).not.toContain("body");
  },
);

test("[security.order] Telegram's updates are read once its secret has been seen", async () => {
  const address = ADDRESSES.find(({ fn, pattern }) => fn === "telegram" && pattern === "/")!;
  for (const secret of ["", "wrong", "x".repeat(64)]) {
    const { effects, status } = await send(address, "nobody", json({ update_id: 1 }), {
      headers: { "x-telegram-bot-api-secret-token": secret },
    });
    expect.soft([status, ...effects.filter((effect) => effect !== "identity")]).toEqual([401]);
  }
  const { effects } = await send(address, "nobody", json({ update_id: 1 }), { headers: TELEGRAM });
  expect(effects).toEqual(["body", "database"]);
});

describe("issue-kaggle-token, whose callers may say who they are in the body", () => {
  const [address] = ADDRESSES.filter(({ fn }) => fn === TOKENS);
  const asked = (secret: string) => json({ grant_type: "client_credentials", client_secret: secret });

  test("[security.order] reads one that is small, and then asks who it is: nothing else", async () => {
    for (const secret of ["", "a wrong one", ACTORS["a wrong consumer key"].apikey, "sb_secret_guessed"]) {
      const { effects, status } = await send(address!, "nobody", asked(secret));
      expect.soft([400, 401], secret).toContain(status);
      expect.soft(effects, secret).toEqual(secret === "" ? ["body"] : ["body", "identity"]);
    }
  });

  test("[security.order] takes no more than 64 KiB, whether it is announced or not", async () => {
    const announced = await send(address!, "nobody", large);
    expect([announced.status, announced.taken]).toEqual([413, 0]);
    const chunked = await send(address!, "nobody", large, { known: false });
    expect(chunked.status).toBe(413);
    expect(chunked.taken).toBeLessThan(128 * 1024);
    expect([...announced.effects, ...chunked.effects]).toEqual(["body"]);
  });
});

test("[security.order] an address that nobody has signed takes nothing in", async () => {
  for (const address of ADDRESSES.filter(({ open, method }) => open && method !== "GET")) {
    const { effects, status } = await send(address, "nobody", large);
    expect.soft([401, 403], called(address)).toContain(status);
    expect.soft(effects, called(address)).toEqual([]);
  }
});

test("what makes sense to the function api is known for each of its addresses", async () => {
  for (const address of ADDRESSES.filter(({ fn, open }) => fn === "api" && !open)) {
    const { path, init } = sensibleRequest(address);
    const body = init.body === null ? null : {
      bytes: utf8.encode(String(init.body)) as Uint8Array<ArrayBuffer>,
      type: init.headers["content-type"]!,
    };
    const { status, text } = await send({ ...address, path }, "the project's key", body);
    // It came as far as the database, which is not there.
    expect.soft([404, 503], `${called(address)}: ${text}`).toContain(status);
  }
});

// The last one: what it wakes goes on.
test("[security.order] a wake-up of the worker has no body that anybody would read", async () => {
  const worker = ADDRESSES.find(({ fn }) => fn === "worker")!;
  const { effects, status } = await send(worker, "the project's key", small);
  expect([status, effects.includes("body")]).toEqual([202, false]);
});
