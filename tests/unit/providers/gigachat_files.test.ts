/** Pictures for GigaChat: uploaded, named in the call, deleted after it; within its published limits, whatever goes wrong. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { gigachatProvider } from "../../../shared/providers/gigachat/provider.ts";
import { UPLOAD_TIMEOUT_MS } from "../../../shared/providers/gigachat/files.ts";
import { ProviderFailure } from "../../../shared/providers/provider.ts";
import { toBase64 } from "../../../shared/runtime/base64.ts";
import type { Part } from "../../../shared/contract/content.ts";
import { textOf } from "../../../shared/contract/content.ts";
import { asFetch } from "../../fakes/fake_api.ts";
import {
  type GigachatEmulator,
  gigachatEmulator,
  type GigachatFault,
} from "../../../local/gigachat/emulator.ts";
import { breachesOf, type JournalEntry, PUBLISHED } from "../../../local/gigachat/journal.ts";

let emulator: GigachatEmulator;
let provider: ReturnType<typeof gigachatProvider>;
let left: { names: string[]; reason: string }[];
beforeEach(() => {
  emulator = gigachatEmulator();
  left = [];
  provider = gigachatProvider({
    baseUrl: "https://gigachat.test/api/v1",
    authUrl: "https://ngw.test:9443/api/v2/oauth",
    fetch: asFetch(emulator.handler),
    onLeftBehind: (names, reason) => left.push({ names, reason }),
  });
});
/** Whatever a test does, nothing stays at GigaChat, and nothing breaks its limits. */
afterEach(() => {
  expect(breachesOf(emulator.journal)).toEqual([]);
});

const BEGINNINGS: Record<string, number[]> = {
  "image/jpeg": [0xff, 0xd8, 0xff, 0xe0],
  "image/png": [0x89, 0x50, 0x4e, 0x47],
  "image/tiff": [0x49, 0x49, 0x2a, 0],
  "image/bmp": [0x42, 0x4d],
};

function picture(mimeType = "image/png", bytes = 64): Part {
  const data = new Uint8Array(bytes);
  data.set(BEGINNINGS[mimeType] ?? []);
  return { inlineData: { mimeType, data: toBase64(data) } };
}

const call = (parts: Part[] = [picture()], more: Record<string, unknown> = {}) => ({
  model: "gigachat/GigaChat-2-Pro",
  secret: "Z2lnYTpjaGF0",
  prompt: { contents: [{ role: "user", parts: [...parts, { text: "What is it?" }] }] },
  signal: new AbortController().signal,
  ...more,
});

const did = () => emulator.journal.map(({ what }) => what);
const failureOf = async (promise: Promise<unknown>): Promise<ProviderFailure> => {
  const failure = await promise.then(() => null, (thrown) => thrown);
  expect(failure).toBeInstanceOf(ProviderFailure);
  return failure;
};

describe("a picture", () => {
  test.each(Object.keys(BEGINNINGS))("of %s is uploaded, named, and deleted", async (mimeType) => {
    const { answer, usage } = await provider.text.generate(call([picture(mimeType)]));
    expect(textOf(answer)).toContain(`Картинка ${mimeType}, 64 байт`);
    expect(usage!.inputTokens).toBeGreaterThan(1_000);
    expect(did()).toEqual(["token", "upload", "chat", "delete"]);
    expect(emulator.seen[0]).toMatchObject({
      messages: [{
        role: "user",
        content: "What is it?",
        attachments: [expect.stringMatching(/^[0-9a-f-]{36}$/)],
      }],
    });
    expect(emulator.files.size).toBe(0);
  });

  test("of a stream is deleted when the stream has ended, or is left", async () => {
    for (const leave of [false, true]) {
      const stream = provider.text.stream(call());
      expect((await stream.next()).done).toBe(false);
      expect(emulator.files.size).toBe(1);
      if (leave) await stream.return(undefined as never);
      else while (!(await stream.next()).done);
      expect(emulator.files.size).toBe(0);
    }
  });

  test("is one in a message, whatever a turn has", async () => {
    await provider.text.generate(call(Array.from({ length: 10 }, () => picture())));
    const { messages } = emulator.seen[0] as { messages: { attachments: string[]; content: string }[] };
    expect(messages.map(({ attachments }) => attachments.length)).toEqual(Array(10).fill(1));
    expect(messages.at(-1)!.content).toBe("What is it?");
    expect(emulator.files.size).toBe(0);
  });

  test.each<[string, Part[]]>([
    ["webp", [picture("image/webp")]],
    ["gif", [picture("image/gif")]],
    ["above 15 MB", [picture("image/png", PUBLISHED.imageBytes + 1)]],
    ["of 20 MB together", [picture("image/png", 10_000_000), picture("image/jpeg", 10_000_000)]],
    ["the eleventh", Array.from({ length: 11 }, () => picture())],
  ])("%s is refused before anything is sent", async (_, parts) => {
    const { diagnosis } = await failureOf(provider.text.generate(call(parts)));
    expect(diagnosis).toMatchObject({ fault: "caller", code: "unsupported_feature", retryable: false });
    expect(did()).toEqual([]);
  });

  test("of exactly 15 MB goes", async () => {
    await provider.text.generate(call([picture("image/png", PUBLISHED.imageBytes)]));
    expect(emulator.journal.find(({ what }) => what === "upload")?.file?.bytes).toBe(15_000_000);
  });

  test("that is no picture is the caller's fault", async () => {
    const text: Part = { inlineData: { mimeType: "image/png", data: btoa("hello, I am a text") } };
    expect((await failureOf(provider.text.generate(call([text])))).diagnosis.fault).toBe("caller");
    const broken: Part = { inlineData: { mimeType: "image/png", data: "###" } };
    expect((await failureOf(provider.text.generate(call([broken])))).diagnosis.fault).toBe("caller");
  });
});

describe("a fault", () => {
  test.each<[GigachatFault["on"], GigachatFault["how"], Record<string, unknown>, JournalEntry["what"][]]>([
    ["upload", "rate_limited", { fault: "lane", retryable: true }, ["token", "upload"]],
    ["upload", "too_large", { fault: "caller", retryable: false }, ["token", "upload"]],
    // Nobody knows whether it was stored: it is looked for.
    ["upload", "broken", { fault: "nobody", retryable: true }, ["token", "upload", "list"]],
    ["upload", "half_answer", { fault: "nobody", retryable: true }, ["token", "upload", "list", "delete"]],
    ["upload", "not_json", { fault: "nobody", retryable: true }, ["token", "upload", "list", "delete"]],
    ["chat", "rate_limited", { fault: "lane", retryable: true }, ["token", "upload", "chat", "delete"]],
    ["chat", "half_answer", { fault: "nobody", retryable: true }, ["token", "upload", "chat", "delete"]],
    ["chat", "not_json", { fault: "nobody", retryable: true }, ["token", "upload", "chat", "delete"]],
    ["token", "rate_limited", { fault: "lane", retryable: true }, ["token"]],
  ])("of the %s (%s) is told as what it is, and nothing stays there", async (on, how, diagnosis, calls) => {
    emulator.faults.push({ on, how });
    const failure = await failureOf(provider.text.generate(call()));
    expect(failure.diagnosis).toMatchObject(diagnosis);
    expect(did()).toEqual(calls);
    expect(emulator.files.size).toBe(0);
    expect(left).toEqual([]);
  });

  test.each<GigachatFault["on"]>(["upload", "chat", "delete"])(
    "of the token at the %s fetches another one, once",
    async (on) => {
      emulator.faults.push({ on, how: "token_expired" });
      await provider.text.generate(call());
      expect(emulator.tokensIssued).toBe(2);
      expect(emulator.files.size).toBe(0);
    },
  );

  test("a hung upload is left after its time, looked for and deleted", async () => {
    const timeouts: { ms: number; off: AbortController }[] = [];
    const timeout = vi.spyOn(AbortSignal, "timeout").mockImplementation((ms) => {
      const off = new AbortController();
      timeouts.push({ ms, off });
      return off.signal;
    });
    try {
      emulator.faults.push({ on: "upload", how: "hangs" });
      const failed = failureOf(provider.text.generate(call()));
      await expect.poll(() => emulator.files.size).toBe(1);
      timeouts.find(({ ms }) => ms === UPLOAD_TIMEOUT_MS)!.off.abort(
        new DOMException("late", "TimeoutError"),
      );
      expect((await failed).diagnosis).toMatchObject({ fault: "nobody", code: "upstream_timeout" });
      expect(did()).toEqual(["token", "upload", "list", "delete"]);
      expect(emulator.files.size).toBe(0);
    } finally {
      timeout.mockRestore();
    }
  });

  test("a caller who leaves is not waited for, and the picture is deleted all the same", async () => {
    const gone = new AbortController();
    emulator.faults.push({ on: "chat", how: "hangs" });
    const leaving = provider.text.generate(call([picture()], { signal: gone.signal }));
    await expect.poll(() => emulator.seen.length).toBe(1);
    gone.abort(new DOMException("gone", "AbortError"));
    await expect(leaving).rejects.toThrow("gone");
    expect(emulator.files.size).toBe(0);
  });

  test.each<[GigachatFault["how"]]>([["broken"], ["rate_limited"], ["too_large"]])(
    "of the deletion (%s) is said, and costs the caller nothing",
    async (how) => {
      emulator.faults.push({ on: "delete", how });
      expect((await provider.text.generate(call())).verdict).toEqual({ ok: true });
      const [file] = emulator.files.values();
      expect(left).toEqual([{ names: [file!.filename], reason: expect.any(String) }]);
      expect(JSON.stringify(left)).not.toContain("eyJ");
    },
  );

  test("of the list, after an upload that nobody knows of, is said too", async () => {
    emulator.faults.push({ on: "upload", how: "half_answer" }, { on: "list", how: "broken" });
    await failureOf(provider.text.generate(call()));
    const [file] = emulator.files.values();
    expect(left).toEqual([{ names: [file!.filename], reason: expect.any(String) }]);
  });
});

describe("the check of the journal", () => {
  const entry = (more: Partial<JournalEntry>): JournalEntry => ({
    what: "chat",
    at: 0,
    status: 200,
    atOnce: 1,
    tokenLeftMs: 1,
    ...more,
  });
  const file = { name: "a", mimeType: "image/png", bytes: 1 };

  test.each<[string, JournalEntry[]]>([
    ["bytes", [entry({ what: "upload", file: { ...file, bytes: 15_000_001 } })]],
    ["image/webp", [entry({ what: "upload", file: { ...file, mimeType: "image/webp" } })]],
    ["several pictures", [entry({ images: { inMessages: [2], bytes: 2 } })]],
    ["11 pictures", [entry({ images: { inMessages: Array(11).fill(1), bytes: 2 } })]],
    ["bytes of pictures", [entry({ images: { inMessages: [1, 1], bytes: 20_000_000 } })]],
    ["at once", [entry({ atOnce: 2 })]],
    ["came before", [entry({ what: "token", rqUid: "a" }), entry({ what: "token", rqUid: "a" })]],
    ["2 tokens, where 1 were", [entry({ what: "token", rqUid: "a" }), entry({ what: "token", rqUid: "b" })]],
  ])("finds %s", (found, journal) => {
    expect(breachesOf(journal, 1).join()).toContain(found);
  });
});
