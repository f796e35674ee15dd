/** A long time in a channel: posts, albums whose parts come late and out of order, edits, updates that come twice. And what is to be there at its end. */
import { expect } from "vitest";
import { type TelegramEmulator, USUAL_CHAT } from "../../local/telegram/emulator.ts";
import type { EmulatedMessage } from "../../local/telegram/messages.ts";
import { sha256Of } from "../../shared/runtime/sha256.ts";

/** A JPEG by its beginning, different for each number. */
export function picture(number: number, bytes = 300): Uint8Array<ArrayBuffer> {
  const made = new Uint8Array(bytes);
  made.set([0xff, 0xd8, 0xff, 0xe0]);
  new DataView(made.buffer).setUint32(100, number);
  return made;
}

export const hashes = (pictures: Uint8Array<ArrayBuffer>[]) => Promise.all(pictures.map(sha256Of));

export interface ExpectedPost {
  text: string;
  pictures: Uint8Array<ArrayBuffer>[];
  /** Of its messages, in their order. */
  ids: number[];
}

export interface PostRow {
  id: string;
  external_id: string;
  source: string;
  text: string;
  // deno-lint-ignore no-explicit-any -- its parts are what the tests look at.
  metadata: any;
  trace_id: string;
  media: string[];
}

/**
 * Writes `many` messages and edits. `pause` is called now and then, with how many have been written: what has come until then may be
 * worked on, or broken.
 * @returns what each post is to be, by its first message
 */
export async function tellStory(
  { emulator, random, many, hasLinks = true, pause }: {
    emulator: TelegramEmulator;
    /** Uniform in [0, 1). */
    random: () => number;
    many: number;
    /** Each post leads to a page. */
    hasLinks?: boolean;
    pause: (sent: number) => Promise<void>;
  },
): Promise<Map<number, ExpectedPost>> {
  const { send, edit, faults, push } = emulator;
  const expected = new Map<number, ExpectedPost>();
  const shuffled = <One>(all: One[]) => {
    const keys = new Map(all.map((one) => [one, random()]));
    return all.toSorted((one, other) => keys.get(one)! - keys.get(other)!);
  };
  let late: EmulatedMessage[] = [];
  const sendLate = () => {
    for (const channel_post of shuffled(late)) push({ channel_post });
    late = [];
  };
  let number = 1_000;
  for (let sent = 0; sent < many;) {
    if (random() < 0.15 && expected.size > 0) {
      const [id, post] = [...expected][Math.floor(random() * expected.size)]!;
      const photos = random() < 0.5 && post.pictures.length > 0 ? [picture(number++)] : undefined;
      post.text = `edited ${number++}`;
      if (photos !== undefined) post.pictures[0] = photos[0]!;
      edit(USUAL_CHAT.id, id, { text: post.text, ...(photos && { photos }) });
      sent++;
    } else {
      const pictures = Array.from({ length: Math.floor(random() * 4) }, () => picture(number++));
      const text = `post ${number++}${hasLinks ? ` https://example.com/${number}` : ""}`;
      const parts = send({
        text,
        photos: pictures,
        // Some parts come only with later posts.
        order: (all) => {
          const mixed = shuffled(all);
          const held = mixed.length > 1 && random() < 0.5 ? mixed.splice(1) : [];
          late.push(...held);
          return mixed;
        },
      });
      expected.set(parts[0]!.message_id, {
        text,
        pictures,
        ids: parts.map(({ message_id }) => message_id),
      });
      sent += parts.length;
    }
    if (random() < 0.1) faults.push({ on: "deliver", how: "answer_lost" });
    if (random() < 0.2) faults.push({ on: random() < 0.5 ? "getFile" : "download", how: "broken" });
    if (random() < 0.3) {
      sendLate();
      await pause(sent);
    }
  }
  sendLate();
  return expected;
}

/** Every post is there once, as it was written last, with every picture in its place. */
export async function expectStory(
  found: readonly PostRow[],
  expected: ReadonlyMap<number, ExpectedPost>,
): Promise<void> {
  const byFirst = new Map(found.map((post) => [post.metadata.message_ids[0] as number, post]));
  expect(found).toHaveLength(expected.size);
  for (const [first, { text, pictures, ids }] of expected) {
    expect(byFirst.get(first), String(first)).toMatchObject({
      text,
      media: await hashes(pictures),
      metadata: { message_ids: ids },
    });
  }
}
