import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { historyOf, joined, messageFrom } from "../../../shared/chats/history.ts";
import { markdownHead, markdownOf } from "../../../shared/chats/transcript.ts";
import type { Chat, Message } from "../../../shared/database/chats.ts";
import { textOf } from "../../../shared/contract/content.ts";

const message = (role: Message["role"], content: string, more: Partial<Message> = {}): Message => ({
  id: crypto.randomUUID(),
  chat_id: "c",
  parent_id: null,
  role,
  content,
  message_type: "text",
  parts: null,
  client_id: null,
  request_id: null,
  usage: null,
  feedback: null,
  state: "complete",
  created_at: "2026-11-01T00:00:00Z",
  ...more,
});
/** A token a character. */
const estimate = (prompt: { contents: { parts?: { text?: string }[] }[] }) =>
  prompt.contents.flatMap(({ parts = [] }) => parts).reduce((sum, { text = "" }) => sum + text.length, 0);
const turnsOf = (history: Message[], most: number) =>
  historyOf(history, most, estimate).turns.map((turn) =>
    `${turn.role}: ${textOf({ candidates: [{ content: turn }] })}`
  );

describe("what a model is told of a conversation", () => {
  const history = [
    message("user", "aaaa"),
    message("assistant", "bbbb"),
    message("user", "cccc"),
    message("assistant", "dddd"),
  ];

  test("is the last whole messages that fit, beginning with a question", () => {
    expect(turnsOf(history, 100)).toEqual(["user: aaaa", "model: bbbb", "user: cccc", "model: dddd"]);
    expect(turnsOf(history, 12)).toEqual(["user: cccc", "model: dddd"]);
    expect(turnsOf(history, 7)).toEqual([]);
    expect(turnsOf(history, 0)).toEqual([]);
  });

  test("has all system messages, no empty, unfinished or tool messages, and neighbours as one turn", () => {
    const { system, turns } = historyOf(
      [
        message("system", "s1"),
        message("user", "a"),
        message("user", "b"),
        message("assistant", "", { state: "broken_off" }),
        message("tool", "t"),
        message("assistant", "half", { state: "broken_off" }),
        message("assistant", "being written", { state: "pending" }),
        message("system", "s2"),
      ],
      100,
      estimate,
    );
    expect(system).toEqual([{ text: "s1" }, { text: "s2" }]);
    expect(turns).toEqual([
      { role: "user", parts: [{ text: "a" }, { text: "b" }] },
      { role: "model", parts: [{ text: "half" }] },
    ]);
  });

  test("keeps within its bound, loses nothing in between and never begins with an answer, whatever was said", () => {
    fc.assert(fc.property(
      fc.array(
        fc.tuple(
          fc.constantFrom("user" as const, "assistant" as const),
          fc.string({ minLength: 1, maxLength: 9 }).filter((text) => text.trim() !== ""),
        ),
      ),
      fc.nat(60),
      (said, most) => {
        const { turns } = historyOf(said.map(([role, text]) => message(role, text)), most, estimate);
        expect(estimate({ contents: turns })).toBeLessThanOrEqual(most);
        expect(turns[0]?.role).not.toBe("model");
        const kept = turns.flatMap(({ role, parts = [] }) => parts.map(({ text }) => `${role}:${text}`));
        const all = said.map(([role, text]) => `${role === "user" ? "user" : "model"}:${text}`);
        expect(all.slice(all.length - kept.length)).toEqual(kept);
        turns.forEach((turn, at) => expect(turn.role).not.toBe(turns[at + 1]?.role));
        // No more would have fitted.
        const next = said[said.length - kept.length - 1];
        if (next?.[0] === "user") {
          expect(estimate({ contents: turns }) + next[1].length).toBeGreaterThan(most);
        }
      },
    ));
  });

  test("leaves what it was given as it was", () => {
    const turns = [{ role: "user", parts: [{ text: "a" }] }, { role: "user", parts: [{ text: "b" }] }];
    joined(turns);
    expect(turns[0]!.parts).toEqual([{ text: "a" }]);
  });
});

describe("what is kept of a message", () => {
  test("is its text alone where there is nothing else, without thoughts", () => {
    expect(messageFrom([{ text: "a" }, { text: "t", thought: true }, { text: "b" }])).toEqual({
      content: "ab",
      parts: null,
    });
  });

  test("has its other parts, and of large data only how much it was, which is not told again", () => {
    const call = { functionCall: { name: "f", args: {} } };
    const large = { inlineData: { mimeType: "image/png", data: "x".repeat(10_000) } };
    const { content, parts } = messageFrom([{ text: "look" }, call, large]);
    expect(content).toBe("look");
    expect(parts).toEqual([{ text: "look" }, call, {
      omitted: { mimeType: "image/png", characters: 10_000 },
    }]);
    const { turns } = historyOf([message("user", content, { parts })], 100, estimate);
    expect(turns).toEqual([{ role: "user", parts: [{ text: "look" }, call] }]);
  });
});

test("a name cannot break out of its place in Markdown", () => {
  const head = markdownHead({ title: "a\n# b", description: null } as Chat);
  expect(head).toBe("# a # b\n\n");
  const image = {
    image_name: "x](javascript:alert(1))\n# y",
    s3_url: "https://a.example/> b",
    description: null,
  };
  const text = markdownOf({ ...message("user", "hi"), images: [image], search_results: [] } as never);
  expect(text).toContain("![x(javascript:alert(1)) # y](<https://a.example/b>)");
});
