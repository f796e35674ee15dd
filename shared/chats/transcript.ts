import type { Chat, Message, SearchResult, WholeMessage } from "../database/chats.ts";

/** A conversation as others get to read it: without whose it is, and without what the gateway notes of its calls. */
export interface Snapshot {
  title: string | null;
  messages: { role: string; content: string; created_at: string }[];
}

/** The words of a conversation. Its pictures stay their owner's. */
export function snapshotOf(chat: Chat, messages: readonly Message[]): Snapshot {
  return {
    title: chat.title,
    messages: messages.map(({ role, content, created_at }) => ({ role, content, created_at })),
  };
}

/** A table made by hand may know other words: they stand as they are. */
const SPEAKERS: Record<string, string> = {
  user: "User",
  assistant: "Assistant",
  system: "System",
  tool: "Tool",
};
const ENDS: Record<string, string> = {
  complete: "",
  pending: " (being written)",
  broken_off: " (broken off)",
};

/** The head of a conversation in Markdown. */
export function markdownHead({ title, description }: Chat): string {
  return `# ${oneLine(title ?? "Chat")}\n\n${description ? `${description}\n\n` : ""}`;
}

/** A message in Markdown: who, when, what, its pictures and the places that were found. */
export function markdownOf({ role, created_at, state, content, ...message }: WholeMessage): string {
  const lines = [`## ${SPEAKERS[role] ?? oneLine(role)}, ${created_at}${ENDS[state] ?? ""}`, "", content, ""];
  for (const { image_name, s3_url, description } of message.images) {
    const name = oneLine(image_name ?? description ?? "picture").replace(/[[\]]/g, "");
    lines.push(s3_url === null ? `- picture: ${name}` : `![${name}](<${s3_url.replace(/[<>\s]/g, "")}>)`);
  }
  lines.push(...message.search_results.map(markdownOfResult));
  return `${lines.join("\n").trimEnd()}\n\n`;
}

/** A place that was found, as a quotation in Markdown. */
export function markdownOfResult({ page_number, block_id, block_text }: SearchResult): string {
  const place = [page_number === null ? null : `page ${page_number}`, block_id].filter((part) =>
    part !== null
  );
  return `> ${[place.join(", "), oneLine(block_text ?? "")].filter((part) => part !== "").join(": ")}`;
}

const oneLine = (text: string) => text.replace(/\s+/g, " ").trim();
