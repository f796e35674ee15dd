/** Bodies made to end the process, sent at once by every kind of caller, beside one who wants to be served. */
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { CHECKOUT } from "../../local/paths.ts";
import { makeTestFolder, type TestFolder } from "../harness/folders.ts";
import { HOSTED_BYTES, METER_PATH, meteredFunctions } from "../harness/metered_functions.ts";
import { type Actors, MODEL, startWithActors } from "./actors.ts";

const AT_ONCE = 50;
const LARGE_BYTES = 9_000_000;
const VICTIM_CALLS = 10;
const BUSY_MACHINE_MS = 240_000;

vi.setConfig({ testTimeout: BUSY_MACHINE_MS });

let all: Actors;
let invoke: string;
let functions: TestFolder;

beforeAll(async () => {
  // To the function itself, and from it to the database: what is tried here is not this process, which plays all the others.
  // A busy machine is no reason to be refused.
  functions = await makeTestFolder();
  all = await startWithActors({
    functionsDir: await meteredFunctions(functions.path, CHECKOUT),
    env: { EVE_LEDGER_TRANSPORT: "direct", EVE_RPC_TIMEOUT_MS: "60000" },
    startLate: [],
  });
  invoke = `${all.stack.functions.get("llm-invoke")!.url}/llm-invoke`;
});
afterAll(async () => {
  await all?.stop();
  await functions?.remove();
});

const text = (json: string) => new TextEncoder().encode(json);
const repeated = (one: string) => one.repeat(Math.floor(LARGE_BYTES / one.length));
const keys = () => Array.from({ length: 680_000 }, (_, n) => `"k${n}":1`).join(",");
/** A picture as large as it may be, which is nothing wrong. */
const picture = () =>
  `{"model":"${MODEL}","contents":[{"role":"user","parts":[{"text":"What is this?"},` +
  `{"inlineData":{"mimeType":"image/png","data":"${repeated("AAAA")}"}}]}]}`;

const BODIES: [string, () => Uint8Array<ArrayBuffer>][] = [
  ["tiny arrays", () => text(`{"model":"${MODEL}","prompt":[${repeated("[],")}1]}`)],
  ["680,000 keys", () => text(`{"model":"${MODEL}","prompt":{${keys()}}}`)],
  [
    "empty objects, as many as there may be",
    () => text(`{"model":"${MODEL}","messages":[${"{},".repeat(12_000)}{}]}`),
  ],
  [
    "a conversation, as long as it may be",
    () =>
      text(
        `{"model":"${MODEL}","messages":[${Array(4_900).fill('{"role":"user","content":"x"}').join(",")}]}`,
      ),
  ],
  ["one long text", () => text(`{"model":"${MODEL}","prompt":"${repeated("hello ")}"}`)],
  ["pictures", () => text(picture())],
];

/** Those of them with which nothing is wrong. */
const VALID = ["a conversation, as long as it may be", "one long text", "pictures"];
/** The long text is longer than any prompt may be. */
const ANSWERS_TO_VALID = ["200 served", "413 prompt_too_large", "429 rate_limited"];

/** The status, and the gateway's code; a client whose body is not read to the end may see the connection close instead. */
async function send(body: BodyInit, headers: Record<string, string>, url = invoke): Promise<string> {
  try {
    const response = await fetch(url, {
      method: "POST",
      body,
      headers: { "content-type": "application/json", ...headers },
    });
    const answer = await response.json();
    // OAuth's errors are a word.
    const code = typeof answer.error === "string" ? answer.error : answer.error?.code ?? answer.code;
    return `${response.status} ${code ?? "served"}`;
  } catch {
    return "closed";
  }
}

const process = (name = "llm-invoke") => {
  const { pid, restarts } = all.stack.functions.get(name)!;
  return { pid, restarts };
};

/** Begins to watch a function's memory; what it gives tells the most that the function has had since. */
async function watchMemory(name = "llm-invoke"): Promise<() => Promise<number>> {
  const url = `${all.stack.functions.get(name)!.url}/${name}${METER_PATH}`;
  const most = async () => Number(await (await fetch(url)).text());
  await most();
  return most;
}

describe.each(BODIES)("[security.bodies] 50 bodies at once: %s", (name, make) => {
  const attackers = ["notebook token", "consumer key"] as const;
  // What a token may send, a key may: one of each kind is enough.
  test.each(
    attackers.filter((who) => who === "notebook token" || ["tiny arrays", "pictures"].includes(name)),
  )(
    "by a %s: each is answered, the others are served, and the process lives",
    async (who) => {
      const before = process();
      const memory = await watchMemory();
      const body = make();
      const attack = Promise.all(
        Array.from({ length: AT_ONCE }, () => send(body, all.headers[who])),
      );
      const victim = all.secrets.other!;
      const served: string[] = [];
      for (let n = 0; n < VICTIM_CALLS; n++) {
        served.push(await send(JSON.stringify({ model: MODEL, prompt: `Say ${n}` }), { apikey: victim }));
      }
      const seen = new Set(await attack);
      expect(new Set(served)).toEqual(new Set(["200 served"]));
      const allowed = [
        "400 invalid_request",
        "413 body_too_large",
        "503 gateway_busy",
        ...(VALID.includes(name) ? ANSWERS_TO_VALID : []),
      ];
      expect([...seen].filter((one) => !allowed.includes(one))).toEqual([]);
      expect(process()).toEqual(before);
      expect(await memory()).toBeLessThan(HOSTED_BYTES);
    },
  );
});

/** 50 at once at an address of a function; each is answered in one of these ways, and the process lives. */
async function attacked(
  name: string,
  path: string,
  { body, headers, allowed }: {
    body: BodyInit;
    headers: Record<string, string>;
    allowed: readonly string[];
  },
) {
  const before = process(name);
  const memory = await watchMemory(name);
  const url = `${all.stack.functions.get(name)!.url}/${name}${path}`;
  const seen = await Promise.all(Array.from({ length: AT_ONCE }, () => send(body, headers, url)));
  expect([...new Set(seen)].filter((one) => !allowed.includes(one)), `${name}${path}`).toEqual([]);
  expect(process(name)).toEqual(before);
  expect(await memory()).toBeLessThan(HOSTED_BYTES);
  return seen;
}

const tinyArrays = () => text(`{"model":"${MODEL}","prompt":[${repeated("[],")}1]}`);
/** A busy machine may not get to the question who calls in time, and says so. */
const TOO_BUSY = "503 database_unavailable";

test.each(
  [
    ["revoked token", "401 token_revoked"],
    ["ordinary user", "401 credential_invalid"],
    ["nobody", "401 credential_missing"],
  ] as const,
)("[security.bodies] by a %s: none of them is read", async (who, answer) => {
  const headers = { ...all.headers[who], "content-type": "application/json" };
  const seen = await attacked("llm-invoke", "", { body: tinyArrays(), headers, allowed: [answer] });
  expect(seen).toHaveLength(AT_ONCE);
});

describe("at the function api", () => {
  const REFUSED = ["413 body_too_large", "503 gateway_busy", TOO_BUSY];
  const JSON_TYPE = { "content-type": "application/json" };
  let keeper: Record<string, string>;
  beforeAll(async () => {
    keeper = { apikey: await all.add("keeper", "service", { scopes: ["media", "chats", "intake"] }) };
  });

  test.each(["nobody", "revoked token"] as const)(
    "[security.bodies] by a %s: none of them is read",
    async (who) => {
      for (const path of ["/v1/media", "/v1/chats", "/v1/intake/posts"]) {
        const headers = { ...JSON_TYPE, ...all.headers[who] };
        const allowed = ["401 credential_missing", "401 token_revoked", TOO_BUSY, "413 body_too_large"];
        await attacked("api", path, { body: tinyArrays(), headers, allowed });
      }
    },
  );

  test("[security.bodies] by an ordinary user and by a consumer's key, as JSON: what is no message is not taken apart", async () => {
    for (const headers of [all.headers["ordinary user"], keeper]) {
      for (
        const path of [
          "/v1/chats",
          "/v1/intake/posts",
          "/v1/chats/00000000-0000-4000-8000-000000000000/messages",
        ]
      ) {
        await attacked("api", path, {
          body: tinyArrays(),
          headers: { ...JSON_TYPE, ...headers },
          allowed: REFUSED,
        });
      }
    }
  });

  test("[security.bodies] by a consumer's key, as files and as forms: they take turns, and others are served", async () => {
    const before = process("api");
    const bytes = text(repeated("a file "));
    const form = (parts: number) => {
      const pieces = Array.from(
        { length: parts },
        (_, n) =>
          `--b\r\ncontent-disposition: form-data; name="f${n}"; filename="a"\r\n\r\n${
            "x".repeat(Math.floor(LARGE_BYTES / parts))
          }\r\n`,
      );
      return text(`${pieces.join("")}--b--\r\n`);
    };
    const multipart = { "content-type": "multipart/form-data; boundary=b" };
    const victim = async () =>
      (await fetch(`${all.stack.functions.get("api")!.url}/api/v1/storage/quota`, { headers: keeper }))
        .status;
    const tried: [string, BodyInit, Record<string, string>, string][] = [
      ["/v1/media", bytes, { "content-type": "text/plain" }, "201 served"],
      ["/v1/media", form(3), multipart, "400 invalid_request"],
      ["/v1/media", form(50_000), multipart, "413 body_too_large"],
      ["/v1/intake/posts", form(90), multipart, "400 invalid_request"],
    ];
    for (const [path, body, type, answer] of tried) {
      const attack = attacked("api", path, {
        body,
        headers: { ...keeper, ...type },
        allowed: [...REFUSED, "200 served", "201 served", "400 invalid_request"],
      });
      for (let n = 0; n < VICTIM_CALLS; n++) expect(await victim()).toBe(200);
      // Those who had their turn were answered as one alone would be.
      expect(await attack, path).toContain(answer);
    }
    expect(process("api")).toEqual(before);
  });
});

test("[security.bodies] at issue-kaggle-token, by anybody: no more is read than a request for a token has", async () => {
  for (const who of ["nobody", "ordinary user", "notebook token", "consumer key"] as const) {
    for (const type of ["application/json", "application/x-www-form-urlencoded"]) {
      const headers = { ...all.headers[who], "content-type": type };
      await attacked("issue-kaggle-token", "", {
        body: tinyArrays(),
        headers,
        allowed: ["413 invalid_request", "closed"],
      });
    }
  }
});

test("by a notebook's token, in the arguments and the results of tools: texts that hold what a body may not", async () => {
  const before = process();
  const inner = JSON.stringify(`[${"[],".repeat(300_000)}[]]`);
  const call = `{"id":"c","type":"function","function":{"name":"f","arguments":${inner}}}`;
  const plain = `{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}`;
  for (
    const messages of [
      `{"role":"user","content":"?"},{"role":"assistant","tool_calls":[${call}]},{"role":"tool","tool_call_id":"c","content":"1"}`,
      `{"role":"user","content":"?"},{"role":"assistant","tool_calls":[${plain}]},{"role":"tool","tool_call_id":"c","content":${inner}}`,
    ]
  ) {
    const response = await fetch(`${invoke}/openai/v1/chat/completions`, {
      method: "POST",
      body: `{"model":"${MODEL}","messages":[${messages}]}`,
      headers: all.headers["notebook token"],
    });
    expect(response.status).toBe(413);
    expect((await response.json()).error.code).toBe("body_too_large");
  }
  expect(process()).toEqual(before);
});

test("by a console administrator: as at the other endpoints", async () => {
  const { pid } = all.stack.functions.get("admin")!;
  const body = text(`{"stage_type":"POEM","settings":[${repeated("[],")}1]}`);
  const seen = await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    const response = await fetch(`${all.stack.functions.get("admin")!.url}/admin/providers/update`, {
      method: "POST",
      body,
      headers: all.headers["console administrator"],
    });
    return `${response.status} ${(await response.json()).error.code}`;
  }));
  // A busy machine may not get to the question who calls in time, and says so.
  const refused = ["413 body_too_large", "503 gateway_busy", "503 database_unavailable"];
  expect(refused).toEqual(expect.arrayContaining([...new Set(seen)]));
  expect(all.stack.functions.get("admin")!.pid).toBe(pid);
});
