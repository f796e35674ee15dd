import { expect, test } from "vitest";
import { googleKeyInspector } from "../../../shared/providers/google/keys.ts";
import { ProviderFailure } from "../../../shared/providers/provider.ts";

const SECRET = "a-key-that-nobody-may-see";
const signal = new AbortController().signal;

/** An inspector whose upstream gives these answers in turn, and what it was asked. */
function inspector(...answers: { status?: number; body: unknown }[]) {
  const asked: { url: URL; headers: Headers; method: string }[] = [];
  const fetch = ((url: string, init: RequestInit) => {
    asked.push({ url: new URL(url), headers: new Headers(init.headers), method: init.method ?? "GET" });
    const { status = 200, body } = answers[asked.length - 1] ?? answers.at(-1)!;
    return Promise.resolve(new Response(typeof body === "string" ? body : JSON.stringify(body), { status }));
  }) as typeof globalThis.fetch;
  return { asked, keys: googleKeyInspector({ baseUrl: "https://upstream.test", fetch }) };
}
const models = (...names: string[]) => names.map((name) => ({ name: `models/${name}` }));
const thrown = async (work: Promise<unknown>) => {
  const error = await work.then(() => null, (error) => error);
  expect(error).toBeInstanceOf(ProviderFailure);
  return error as ProviderFailure;
};

test("a key is checked by one free question, and is sent in a header only", async () => {
  const { keys, asked } = inspector({ body: { models: models("a") } });
  await keys.checkKey({ secret: SECRET, signal });
  expect(asked).toHaveLength(1);
  expect(asked[0]!.url.href).toBe("https://upstream.test/v1beta/models?pageSize=1");
  expect(asked[0]!.method).toBe("GET");
  expect(asked[0]!.headers.get("x-goog-api-key")).toBe(SECRET);
});

test("every page of the list is read, each model once", async () => {
  const { keys, asked } = inspector(
    { body: { models: models("a", "b"), nextPageToken: "next & more" } },
    { body: { models: [...models("b", "c"), { name: "" }, {}, null, "d"] } },
  );
  expect(await keys.listModels({ secret: SECRET, signal })).toEqual(["a", "b", "c"]);
  expect(asked.map(({ url }) => url.searchParams.get("pageToken"))).toEqual([null, "next & more"]);
});

test("a list that does not end is read up to a bound", async () => {
  let page = 0;
  const fetch = (() => {
    page++;
    const names = Array.from({ length: 500 }, (_, n) => `m${page}-${n}`);
    return Promise.resolve(Response.json({ models: models(...names), nextPageToken: "more" }));
  }) as unknown as typeof globalThis.fetch;
  const listed = await googleKeyInspector({ fetch }).listModels({ secret: SECRET, signal });
  expect([listed.length, page]).toEqual([2_000, 4]);
});

test.each([
  ["no list", {}],
  ["an empty list", { models: [] }],
  ["text", "<html>"],
  ["a list of lists", [[]]],
])("%s is no list of models, and says nothing about the key", async (_, body) => {
  const failure = await thrown(inspector({ body }).keys.listModels({ secret: SECRET, signal }));
  expect(failure.diagnosis.fault).toBe("nobody");
});

test.each([
  ["403_key_leaked", "key", "key_leaked"],
  ["403_consumer_suspended", "key", "key_suspended"],
  ["403_service_disabled", "key", "service_disabled"],
  ["403_key_restricted_to_addresses", "key", "key_restricted"],
  ["400_api_key_invalid", "key", "key_invalid"],
  ["400_region", "region", undefined],
  ["503_overloaded", "nobody", undefined],
])("%s fault: %s (%s)", async (name, fault, reason) => {
  const file = new URL(`../../fixtures/google/errors/${name}.json`, import.meta.url);
  const fixture = JSON.parse(await Deno.readTextFile(file));
  const body = fixture.body ?? fixture;
  const { keys } = inspector({ status: Number(name.slice(0, 3)), body });
  const { diagnosis, message } = await thrown(keys.checkKey({ secret: SECRET, signal }));
  expect([diagnosis.fault, diagnosis.block?.reason]).toEqual([fault, reason]);
  expect(message).not.toContain(SECRET);
});

test("a key that upstream repeats goes no further", async () => {
  const body = { error: { code: 400, message: `API key not valid: ${SECRET}`, details: [] } };
  const failure = await thrown(inspector({ status: 400, body }).keys.checkKey({ secret: SECRET, signal }));
  expect(failure.message).toContain("[redacted]");
});

test("a signal that has aborted asks nobody", async () => {
  const { keys, asked } = inspector({ body: { models: models("a") } });
  const gone = AbortSignal.abort(new Error("time is up"));
  await expect(keys.checkKey({ secret: SECRET, signal: gone })).rejects.toThrow("time is up");
  expect(asked).toHaveLength(0);
});

test("an error in an answer with status 200 is one of a key's too", async () => {
  const body = { error: { code: 400, message: "API key not valid. Please pass a valid API key." } };
  const failure = await thrown(inspector({ body }).keys.checkKey({ secret: SECRET, signal }));
  expect(failure.diagnosis).toMatchObject({ fault: "key", code: "key_rejected" });
});
