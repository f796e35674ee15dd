import type { Content, Part, Prompt } from "../contract/content.ts";
import type { Message } from "../database/chats.ts";
import { jsonbBytes } from "../runtime/byte_size.ts";

/** Less than the table takes: numbers may be longer there. Of a text alone, a part says nothing that `content` does not. */
const MAX_STORED_PARTS_BYTES = 250_000;
/** A picture in a prompt is no picture of the chat: those are files. */
const MAX_STORED_DATA_CHARS = 8_192;

/**
 * What a model is told of a conversation: system messages all, of the others the last whole ones that fit.
 *
 * The rule: from the newest message backwards, whole messages, as long as their estimated tokens stay within `maxTokens`; what then
 * begins with an answer loses it, since a conversation begins with a question. Empty and unfinished messages are left out, and
 * neighbours of one speaker become one turn.
 * @param history oldest first
 * @param estimate of a conversation's tokens
 */
export function historyOf(
  history: readonly Message[],
  maxTokens: number,
  estimate: (prompt: Prompt) => number,
): { system: Part[]; turns: Content[] } {
  const said = history.filter(({ state, content, parts }) =>
    state !== "pending" && (content.trim() !== "" || parts !== null)
  );
  const system = said.filter(({ role }) => role === "system").flatMap(partsOfMessage);
  const turns: Content[] = [];
  let left = maxTokens;
  for (const message of said.filter(({ role }) => role === "user" || role === "assistant").reverse()) {
    const turn = { role: message.role === "user" ? "user" : "model", parts: partsOfMessage(message) };
    if (turn.parts.length === 0) continue;
    left -= estimate({ contents: [turn] });
    if (left < 0) break;
    turns.unshift(turn);
  }
  while (turns[0]?.role === "model") turns.shift();
  return { system, turns: joined(turns) };
}

/** Neighbours of one role are one turn: some models refuse two questions in a row. */
export function joined(turns: readonly Content[]): Content[] {
  const result: Content[] = [];
  for (const turn of turns) {
    const last = result.at(-1);
    if (last?.role === turn.role && last !== undefined) {
      last.parts = [...last.parts ?? [], ...turn.parts ?? []];
    } else result.push({ ...turn });
  }
  return result;
}

function partsOfMessage({ content, parts }: Message): Part[] {
  const stored = Array.isArray(parts) ? parts as Part[] : [];
  // What was too large to be kept is not told again.
  const present = stored.filter((part) => part.omitted === undefined);
  return present.length > 0 ? present : content.trim() === "" ? [] : [{ text: content }];
}

/** The text of a message, and its parts as they are kept: null for text alone, and without data that is too much to keep. */
export function messageFrom(parts: readonly Part[]): { content: string; parts: Part[] | null } {
  const said = parts.filter((part) => part.thought !== true);
  const content = said.map(({ text }) => text ?? "").join("");
  if (said.every((part) => typeof part.text === "string")) return { content, parts: null };
  const kept = said.map((part): Part => {
    const data = part.inlineData?.data;
    return data !== undefined && data.length > MAX_STORED_DATA_CHARS
      ? { omitted: { mimeType: part.inlineData?.mimeType ?? null, characters: data.length } }
      : part;
  });
  return { content, parts: jsonbBytes(kept) <= MAX_STORED_PARTS_BYTES ? kept : null };
}
