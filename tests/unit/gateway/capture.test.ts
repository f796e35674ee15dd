/** Prompts and answers that are kept for debugging: only where the consumer's row allows it. */
import { describe, expect, test } from "vitest";
import { ProviderFailure } from "../../../shared/providers/provider.ts";
import { ANSWER, grant, REQUEST, scriptedGateway } from "./gateway_fixture.ts";

const captured = async (asked: boolean | null, consumers: boolean) => {
  const set = scriptedGateway({ reservations: [grant({ capture: consumers })] });
  await set.invoke({ capture: asked });
  await Promise.all(set.background);
  return set.captured;
};

describe("capture", () => {
  test.each([
    ["nobody asks", null, false, 0],
    ["the request asks and its consumer's row does not allow it", true, false, 0],
    ["the consumer's row allows it", null, true, 1],
    ["both ask", true, true, 1],
    ["the request says no to its consumer's row", false, true, 0],
  ])("where %s", async (_, asked, consumers, kept) => {
    const all = await captured(asked, consumers);
    expect(all).toHaveLength(kept);
    for (const one of all) {
      expect(one).toEqual({ requestNo: 12, prompt: REQUEST.prompt, answer: ANSWER.answer });
    }
  });

  test("of a stream has its pieces put together", async () => {
    const set = scriptedGateway({ reservations: [grant({ capture: true })] });
    for await (const _ of set.gateway.stream({ ...REQUEST, capture: true }, set.context()));
    await Promise.all(set.background);
    expect(set.captured).toMatchObject([
      { answer: { candidates: [{ content: { parts: [{ text: "Концерт" }] } }] } },
    ]);
  });

  test("that fails is logged, and the answer goes out all the same", async () => {
    const set = scriptedGateway({ reservations: [grant({ capture: true })] });
    set.parts.ledger.capture = () => Promise.reject(new Error("disk full"));
    expect(await set.invoke({ capture: true })).toMatchObject({ verdict: { ok: true } });
    await Promise.all(set.background);
    expect(set.logged).toContainEqual(["capture_lost", expect.objectContaining({ request_id: "r1" })]);
    expect(set.settlements).toHaveLength(1);
  });

  test("of a request that brought no answer is none", async () => {
    const diagnosis = {
      fault: "caller",
      retryable: false,
      block: null,
      code: "upstream_invalid_request",
    } as const;
    const set = scriptedGateway({
      reservations: [grant({ capture: true })],
      generate: () => Promise.reject(new ProviderFailure(diagnosis, "no", 400)),
    });
    await expect(set.invoke({ capture: true })).rejects.toMatchObject({ code: "upstream_invalid_request" });
    await Promise.all(set.background);
    expect(set.captured).toEqual([]);
  });
});
