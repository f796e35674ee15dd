import { expect, test } from "vitest";
import { streamOf, streamOfTexts } from "../../../shared/http/stream_of.ts";

/** Pieces as they are made, and whether the generator was ended. */
function pieces(failAt = Infinity, count = 3) {
  const made: number[] = [];
  let ended = false;
  async function* make() {
    try {
      for (let n = 1; n <= count; n++) {
        await Promise.resolve();
        if (n === failAt) throw new Error("broken");
        made.push(n);
        yield n;
      }
    } finally {
      ended = true;
    }
  }
  return { make: make(), made, hasEnded: () => ended };
}

test("a piece is made when the reader wants it", async () => {
  const { make, made, hasEnded } = pieces();
  const reader = (await streamOf(make)).getReader();
  expect(made).toEqual([1]);
  expect(await reader.read()).toEqual({ done: false, value: 1 });
  expect(made).toEqual([1]);
  expect(await reader.read()).toEqual({ done: false, value: 2 });
  expect(await reader.read()).toEqual({ done: false, value: 3 });
  expect(await reader.read()).toEqual({ done: true, value: undefined });
  expect(hasEnded()).toBe(true);
});

test("a reader that leaves ends what makes the pieces", async () => {
  const { make, made, hasEnded } = pieces();
  const stream = await streamOf(make);
  await stream.cancel();
  expect([made, hasEnded()]).toEqual([[1], true]);
});

test("what goes wrong before the first piece is thrown, later the body errs or ends with what is said of it", async () => {
  await expect(streamOf(pieces(1).make)).rejects.toThrow("broken");
  const errs = (await streamOf(pieces(2).make)).getReader();
  await errs.read();
  await expect(errs.read()).rejects.toThrow("broken");
  expect(await Array.fromAsync(await streamOf(pieces(2).make, () => -1))).toEqual([1, -1]);
});

test("texts are UTF-8, and no text is no body", async () => {
  async function* words(...all: string[]) {
    for (const word of all) yield await Promise.resolve(word);
  }
  expect(await new Response(await streamOfTexts(words("кон", "церт"))).text()).toBe("концерт");
  expect(await new Response(await streamOfTexts(words())).text()).toBe("");
});
