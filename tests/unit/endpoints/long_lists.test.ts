/** Lists of many faulty items: what is wrong is told, and what is not told is not looked for. */
import { describe, expect, test } from "vitest";
import { z } from "zod";
import type { GatewayError } from "../../../shared/contract/gateway_error.ts";
import { MAX_FAULTS } from "../../../shared/contract/invalid_request.ts";
import { decodeNative } from "../../../shared/endpoints/native/request.ts";
import { geminiPrompt } from "../../../shared/endpoints/gemini/request.ts";
import { decodeMessages } from "../../../shared/endpoints/anthropic/request.ts";
import { decodeChat } from "../../../shared/endpoints/openai/chat/chat_request.ts";
import { decodeResponses } from "../../../shared/endpoints/openai/responses/responses_request.ts";
import { listOf, validated } from "../../../shared/endpoints/validated.ts";

const MANY = 12_000;

/** Items of which each tells when it is looked at. */
function watched(item: Record<string, unknown> = {}) {
  const looked = new Set<number>();
  const items = Array.from({ length: MANY }, (_, n) =>
    new Proxy({ ...item }, {
      get(target, name) {
        looked.add(n);
        return Reflect.get(target, name);
      },
      ownKeys(target) {
        looked.add(n);
        return Reflect.ownKeys(target);
      },
    }));
  return { items, looked };
}

function faultsOf(check: () => unknown): GatewayError {
  try {
    check();
  } catch (thrown) {
    return thrown as GatewayError;
  }
  return expect.unreachable();
}

const TERMS = { newId: "made-here", traceId: null, maxWaitMs: 1_000 };
const BODIES: [string, (items: unknown[]) => unknown][] = [
  ["native messages", (messages) => decodeNative({ model: "m", messages }, TERMS)],
  ["native contents", (contents) => decodeNative({ model: "m", contents }, TERMS)],
  ["native parts", (parts) => decodeNative({ model: "m", contents: [{ parts }, { parts: [1] }] }, TERMS)],
  ["chat messages", (messages) => decodeChat({ model: "m", messages })],
  ["chat tools", (tools) => decodeChat({ model: "m", messages: [{ role: "user", content: "?" }], tools })],
  ["anthropic messages", (messages) => decodeMessages({ model: "m", max_tokens: 9, messages })],
  [
    "anthropic blocks",
    (content) => decodeMessages({ model: "m", max_tokens: 9, messages: [{ role: "user", content }] }),
  ],
  ["responses items", (input) => decodeResponses({ model: "m", input })],
];

describe.each(BODIES)("%s", (_, check) => {
  test(`of ${MANY} that are wrong no more than ${MAX_FAULTS} are looked at`, () => {
    const { items, looked } = watched({ text: 1 });
    const error = faultsOf(() => check(items));
    expect(error).toMatchObject({ code: "invalid_request", status: 400 });
    expect((error.details as unknown[]).length).toBeGreaterThan(0);
    expect((error.details as unknown[]).length).toBeLessThanOrEqual(MAX_FAULTS);
    expect(looked.size).toBeLessThanOrEqual(MAX_FAULTS);
  });
});

test("Gemini's contents likewise, after the fields of all have been read in one spelling", () => {
  const parts = Array.from({ length: MANY }, () => ({ text: 1 }));
  const error = faultsOf(() => geminiPrompt({ contents: [{ parts }] }));
  expect(error.details).toHaveLength(MAX_FAULTS);
});

test("twelve thousand unknown fields: twenty of them are named", () => {
  const unknown = Object.fromEntries(Array.from({ length: MANY }, (_, n) => [`k${n}`, 1]));
  const error = faultsOf(() => decodeNative({ model: "m", prompt: "?", ...unknown }, TERMS));
  expect(error.details).toHaveLength(MAX_FAULTS);
});

describe("a list", () => {
  const shape = z.object({ list: listOf(z.object({ n: z.number() })).min(2) });

  test("of what is right is taken whole, and is what z.array would make", () => {
    const list = Array.from({ length: MANY }, (_, n) => ({ n }));
    expect(validated(shape, { list })).toEqual({ list });
  });

  test("names the places of its faults, also behind what is right", () => {
    const list = Array.from({ length: 100 }, (_, n) => n % 2 === 0 ? { n } : {});
    const { details } = faultsOf(() => validated(shape, { list }));
    expect(details).toHaveLength(MAX_FAULTS);
    expect((details as { field: string }[])[19]).toMatchObject({ field: "list[39].n" });
  });

  test.each([[undefined], [null], ["ab"], [{ length: 2 }], [[{ n: 1 }]]])(
    "%j is none, or too short",
    (list) => {
      expect(faultsOf(() => validated(shape, { list }))).toMatchObject({ code: "invalid_request" });
    },
  );

  test("keeps its own word for what is none", () => {
    const worded = z.object({ list: listOf(z.string(), { error: "must be a list of names" }) });
    expect(faultsOf(() => validated(worded, { list: 1 })).details).toEqual([
      { field: "list", problem: "must be a list of names" },
    ]);
  });

  test("in a union: the other option is taken whole", () => {
    const either = z.object({ list: z.union([listOf(z.string()), listOf(z.number())]) });
    const list = Array.from({ length: 100 }, (_, n) => n);
    expect(validated(either, { list })).toEqual({ list });
    expect(faultsOf(() => validated(either, { list: [...list, {}] }))).toMatchObject({
      code: "invalid_request",
    });
  });
});
