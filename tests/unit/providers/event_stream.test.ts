import { describe, expect, test } from "vitest";
import { EventTooLong, readEvents, type StreamPiece } from "../../../shared/providers/event_stream.ts";

/** A body that gives these pieces one by one, counting how often it was pulled. */
function bodyOf(pieces: (string | Uint8Array)[]) {
  const state = { pulled: 0, cancelled: false };
  const left = pieces.map((piece) => typeof piece === "string" ? new TextEncoder().encode(piece) : piece);
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      state.pulled++;
      const next = left.shift();
      if (next === undefined) controller.close();
      else controller.enqueue(next);
    },
    cancel: () => void (state.cancelled = true),
  }, { highWaterMark: 0 });
  return { body, state };
}

async function piecesOf(pieces: (string | Uint8Array)[], maxChars?: number): Promise<StreamPiece[]> {
  const found: StreamPiece[] = [];
  for await (const piece of readEvents(bodyOf(pieces).body, maxChars)) found.push(piece);
  return found;
}
const data = (...texts: string[]) => texts.map((text) => ({ kind: "data", text }));

describe("events are read out of the bytes", () => {
  const WHOLE = 'data: {"a":"Привет"}\r\n\r\ndata: {"b":2}\r\n\r\n';
  const EXPECTED = data('{"a":"Привет"}', '{"b":2}');

  test("with the byte order mark where it is text, wherever the cut is; the one at the beginning is none", async () => {
    const mark = "\ufeff";
    expect(await piecesOf([mark, `data: a`, `${mark}b\n\n`])).toEqual(data(`a${mark}b`));
    expect(await piecesOf([`${mark}data: a${mark}b\n\n`])).toEqual(data(`a${mark}b`));
  });

  test("wherever the network cuts them", async () => {
    const bytes = new TextEncoder().encode(WHOLE);
    for (let cut = 0; cut <= bytes.length; cut++) {
      expect(await piecesOf([bytes.slice(0, cut), bytes.slice(cut)])).toEqual(EXPECTED);
    }
    expect(await piecesOf([...bytes].map((byte) => Uint8Array.of(byte)))).toEqual(EXPECTED);
  });

  test.each([
    ["LF", "data: 1\n\ndata: 2\n\n"],
    ["CR", "data: 1\r\rdata: 2\r\r"],
    ["no space after the colon", "data:1\n\ndata:2\n\n"],
    ["comments and other fields", ": beat\nid: 7\ndata: 1\n\nevent: x\n\ndata: 2\n\n"],
    ["no empty line at the end", "data: 1\n\ndata: 2"],
    ["a byte order mark", "\uFEFFdata: 1\n\ndata: 2\n\n"],
  ])("%s", async (_, text) => expect(await piecesOf([text])).toEqual(data("1", "2")));

  test("several lines of one event are joined", async () => {
    expect(await piecesOf(["data: {\ndata: }\n\n"])).toEqual(data("{\n}"));
  });

  test("bare JSON breaks the framing and is recognised, to the end of the stream", async () => {
    const stray = '{\n  "error": {\n    "code": 503\n  }\n}\n';
    expect(await piecesOf(["data: 1\r\n\r\n", stray.slice(0, 9), stray.slice(9)])).toEqual([
      ...data("1"),
      { kind: "stray", text: stray },
    ]);
  });
});

describe("memory is bounded", () => {
  test.each([
    ["in one line", ["data: ", "x".repeat(60), "x".repeat(60)]],
    ["in many lines", Array.from({ length: 12 }, () => `data: ${"x".repeat(10)}\n`)],
  ])("an event too long %s ends it", async (_, pieces) => {
    await expect(piecesOf(pieces, 100)).rejects.toThrow(EventTooLong);
  });

  test("nothing is read ahead of the reader, and one that leaves ends the connection", async () => {
    const { body, state } = bodyOf(Array.from({ length: 100 }, (_, i) => `data: ${i}\n\n`));
    for await (const _ of readEvents(body)) {
      if (state.pulled >= 3) break;
    }
    expect(state).toEqual({ pulled: 3, cancelled: true });
  });
});
