/** Bodies made to end the process, sent at once by every kind of caller, beside one who wants to be served. */
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type Actors, MODEL, startWithActors } from "./actors.ts";

const AT_ONCE = 50;
const LARGE_BYTES = 9_000_000;
const VICTIM_CALLS = 10;
/** What a hosted function has, in all. */
const HOSTED_BYTES = 256 * 1024 * 1024;
const SAMPLE_EVERY_MS = 20;
const BUSY_MACHINE_MS = 240_000;

vi.setConfig({ testTimeout: BUSY_MACHINE_MS });

let all: Actors;
let invoke: string;

beforeAll(async () => {
  // To the function itself, and from it to the database: what is tried here is not this process, which plays all the others.
  // A busy machine is no reason to be refused.
  all = await startWithActors({
    env: { EVE_LEDGER_TRANSPORT: "direct", EVE_RPC_TIMEOUT_MS: "60000" },
    startLate: [],
  });
  invoke = `${all.stack.functions.get("llm-invoke")!.url}/llm-invoke`;
});
afterAll(() => all?.stop());

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
async function send(body: BodyInit, headers: Record<string, string>): Promise<string> {
  try {
    const response = await fetch(invoke, {
      method: "POST",
      body,
      headers: { "content-type": "application/json", ...headers },
    });
    const answer = await response.json();
    return `${response.status} ${answer.error?.code ?? answer.code ?? "served"}`;
  } catch {
    return "closed";
  }
}

const process = () => {
  const { pid, restarts } = all.stack.functions.get("llm-invoke")!;
  return { pid, restarts };
};

/** The most that the function has for itself while it is looked at; 0 where the system does not tell (only Linux does). */
function watchMemory() {
  let most = 0;
  const sample = () => {
    try {
      const status = Deno.readTextFileSync(`/proc/${process().pid}/status`);
      most = Math.max(most, 1024 * Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1] ?? 0));
    } catch {
      // Not on this system, or the process has just ended, which is seen by its number.
    }
  };
  const timer = setInterval(sample, SAMPLE_EVERY_MS);
  return () => {
    clearInterval(timer);
    sample();
    return most;
  };
}

describe.each(BODIES)("[security.bodies] 50 bodies at once: %s", (name, make) => {
  test("by a notebook's token: each is answered, the others are served, and the process lives", async () => {
    const before = process();
    const memory = watchMemory();
    const body = make();
    const attack = Promise.all(
      Array.from({ length: AT_ONCE }, () => send(body, all.headers["notebook token"])),
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
    expect(memory()).toBeLessThan(HOSTED_BYTES);
  });
});

test("[security.bodies] by a revoked token: none of them is read", async () => {
  const before = process();
  const body = text(`{"model":"${MODEL}","prompt":[${repeated("[],")}1]}`);
  const seen = await Promise.all(
    Array.from({ length: AT_ONCE }, () => send(body, all.headers["revoked token"])),
  );
  expect(new Set(seen)).toEqual(new Set(["401 token_revoked"]));
  expect(process()).toEqual(before);
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
