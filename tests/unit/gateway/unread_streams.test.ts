import { expect, test } from "vitest";
import { type Caller, chargedName } from "../../../shared/contract/caller.ts";
import type { Clock } from "../../../shared/runtime/clock.ts";
import type { Emit } from "../../../shared/contract/events.ts";
import { eventIteration } from "../../../shared/gateway/streams/event_iteration.ts";
import {
  MOST_UNREAD_STREAMS,
  UNREAD_AFTER_MS,
  UnreadStreams,
} from "../../../shared/gateway/streams/unread_streams.ts";

/** Time goes on when the test says so. */
function testClock() {
  let now = 0;
  const timers = new Set<{ at: number; fire: () => void }>();
  const clock: Clock = {
    now: () => now,
    sleep: () => expect.unreachable("nothing here sleeps"),
    after(ms, fire) {
      const one = { at: now + ms, fire };
      timers.add(one);
      return () => void timers.delete(one);
    },
  };
  return {
    clock,
    pass(ms: number) {
      now += ms;
      for (const one of [...timers]) if (one.at <= now && timers.delete(one)) one.fire();
    },
  };
}

/** Streams of one instance, each without an end of its own. */
function instance() {
  const { clock, pass } = testClock();
  const unread = new UnreadStreams();
  const ended: string[] = [];
  const open = (caller: string) => {
    let upstream = true;
    async function run(emit: Emit): Promise<void> {
      try {
        for (;;) await emit({ type: "delta", chunk: {} });
      } finally {
        upstream = false;
      }
    }
    const stream = eventIteration({
      begin: (_signal, emit) => run(emit),
      client: new AbortController().signal,
      clock,
      timeoutMs: 140_000,
      unread,
      caller,
      onEnd: () => ended.push(caller),
    })[Symbol.asyncIterator]();
    return { stream, holdsUpstream: () => upstream };
  };
  return { open, pass, ended, unread };
}

const turns = async () => {
  for (let n = 0; n < 20; n++) await Promise.resolve();
};

test("[security.slow] a caller who reads none of many streams keeps a few, and holds nothing upstream with the others", async () => {
  const { open, pass, ended } = instance();
  const notebook = Array.from({ length: 40 }, () => open("notebook"));
  const bot = Array.from({ length: MOST_UNREAD_STREAMS }, () => open("bot"));
  for (const { stream } of [...notebook, ...bot]) await stream.next();
  pass(UNREAD_AFTER_MS);
  await turns();
  expect(notebook.filter(({ holdsUpstream }) => holdsUpstream())).toHaveLength(MOST_UNREAD_STREAMS);
  expect(bot.filter(({ holdsUpstream }) => holdsUpstream())).toHaveLength(MOST_UNREAD_STREAMS);
  expect(ended).toHaveLength(40 - MOST_UNREAD_STREAMS);
  await expect(notebook.at(-1)!.stream.next()).rejects.toMatchObject({ code: "streams_unread", status: 429 });
});

const CALLERS: Record<string, Caller[]> = {
  "the project's key": [{ kind: "project", consumerId: null, tokenId: null, name: "default" }],
  "a consumer's key": [{ kind: "service", consumerId: "bot", tokenId: null, name: "bot" }],
  // Another token is no way around it.
  "a notebook's tokens, all together": ["one", "two", "three"].map((tokenId): Caller => ({
    kind: "notebook",
    consumerId: "notes",
    tokenId,
    name: tokenId,
  })),
};

test.each(Object.entries(CALLERS))(
  "%s may leave a few unread, and nobody else notices",
  async (_, callers) => {
    const { open, pass } = instance();
    const other = open("somebody else");
    const streams = Array.from({ length: 30 }, (_, n) => open(chargedName(callers[n % callers.length]!)));
    for (const { stream } of [...streams, other]) await stream.next();
    pass(UNREAD_AFTER_MS);
    await turns();
    expect(streams.filter(({ holdsUpstream }) => holdsUpstream())).toHaveLength(MOST_UNREAD_STREAMS);
    expect(other.holdsUpstream()).toBe(true);
  },
);

test("who reads, however slowly, may have as many as they like", async () => {
  const { open, pass, ended } = instance();
  const streams = Array.from({ length: 40 }, () => open("bot"));
  for (let n = 0; n < 5; n++) {
    for (const { stream } of streams) expect((await stream.next()).done).toBe(false);
    pass(UNREAD_AFTER_MS - 1);
    await turns();
  }
  expect(ended).toEqual([]);
});

test("a stream that is read again, left or over counts no more", async () => {
  const { open, pass, unread } = instance();
  const streams = Array.from({ length: MOST_UNREAD_STREAMS }, () => open("notebook"));
  for (const { stream } of streams) await stream.next();
  expect(unread.isFull("notebook")).toBe(false);
  pass(UNREAD_AFTER_MS);
  expect(unread.isFull("notebook")).toBe(true);
  await streams[0]!.stream.next();
  expect(unread.isFull("notebook")).toBe(false);
  pass(UNREAD_AFTER_MS);
  expect(unread.isFull("notebook")).toBe(true);
  await streams[1]!.stream.return!();
  expect(unread.isFull("notebook")).toBe(false);
  // The time of a request ends those that nobody ever comes back to.
  pass(140_000);
  await turns();
  for (const { holdsUpstream } of streams) expect(holdsUpstream()).toBe(false);
  expect(unread.add("notebook")).toBe(true);
});
