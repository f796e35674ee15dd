/** What the emulator's chats and messages look like. */
export interface Chat {
  id: number;
  type: "private" | "group" | "supergroup" | "channel";
  title?: string;
  username?: string;
}

export interface EmulatedMessage extends Record<string, unknown> {
  message_id: number;
  date: number;
  edit_date?: number;
  chat: Chat;
  media_group_id?: string;
}

export interface MessageToSend {
  text?: string | undefined;
  /** More than one makes an album. */
  photos?: Uint8Array<ArrayBuffer>[];
  documents?: { name: string; mimeType: string; bytes: Uint8Array<ArrayBuffer>; sizeBytes?: number }[];
  chat?: Chat;
  /** The order in which an album's parts are sent to the bot. */
  order?: (all: EmulatedMessage[]) => EmulatedMessage[];
  /** More fields of a message with neither, such as a poll. */
  media?: Record<string, unknown>;
}

export interface StoredFile {
  file_id: string;
  file_unique_id: string;
  /** Its path, as getFile says it. */
  name: string;
  bytes: Uint8Array<ArrayBuffer>;
}

/** Telegram finds addresses in a text by itself. */
export function entitiesOf(text: string): { type: string; offset: number; length: number }[] {
  return [...text.matchAll(/https?:\/\/[^\s)]+/g)].map(({ index, 0: found }) => ({
    type: "url",
    offset: index,
    length: found.length,
  }));
}
