/** What an upstream repeats of a key: in whatever form, nothing of it goes further that could be put to use. */
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { diagnosed } from "../../shared/providers/google/failure.ts";
import { ProviderFailure } from "../../shared/providers/provider.ts";
import { redact } from "../../shared/providers/redact.ts";
import { callUpstream } from "../../shared/providers/upstream.ts";

/** This many characters of a key do not help to guess it, and are enough to tell keys apart. */
const TOO_MANY = 12;

const LETTERS = [..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"];
const VISIBLE = [...LETTERS, ..."!#$%&'()*+,-./:;<=>?@[]^_`{|}~"];

/** Keys as providers make them, and keys of every visible character. */
const key = fc.oneof(
  fc.string({ unit: fc.constantFrom(...LETTERS, "-", "_"), minLength: 16, maxLength: 164 }),
  fc.string({ unit: fc.constantFrom(...VISIBLE), minLength: 16, maxLength: 60 }),
);
const around = fc.string({ unit: fc.constantFrom(..." .,\"'{}:\nабвxyz"), maxLength: 30 });

type Form = (text: string, prefix: string, random: (n: number) => boolean) => string;

const percent = (char: string) => `%${char.charCodeAt(0).toString(16).padStart(2, "0")}`;
const base64 = (text: string) => Buffer.from(text, "latin1").toString("base64");

/** The forms in which a key may come back. What stands before it in base64 shifts it by 0, 1 or 2 of 3 bytes. */
const FORMS: Record<string, Form> = {
  "as it is": (text) => text,
  "in capitals": (text) => text.toUpperCase(),
  "in small letters": (text) => text.toLowerCase(),
  "in any case": (text, _, random) =>
    [...text].map((char, n) => random(n) ? char.toUpperCase() : char.toLowerCase()).join(""),
  "in base64": (text, prefix) => base64(prefix + text),
  "in base64url": (text, prefix) => Buffer.from(prefix + text, "latin1").toString("base64url"),
  "in base64 with more behind it": (text, prefix) => base64(`${prefix}${text}:and more`),
  "in base64, one of its cases": (text, prefix) => base64(prefix + text.toUpperCase()),
  "percent-encoded": (text) => encodeURIComponent(text),
  "percent-encoded whole": (text) => [...text].map(percent).join(""),
  "percent-encoded here and there": (text, _, random) =>
    [...text].map((char, n) => random(n) || char === "%" ? percent(char) : char).join(""),
  "percent-encoded in capitals": (text) => [...text].map((char) => percent(char).toUpperCase()).join(""),
  "percent-encoded twice": (text) => encodeURIComponent([...text].map(percent).join("")),
  "in base64, percent-encoded": (text, prefix) => encodeURIComponent(base64(prefix + text)),
  "percent-encoded, in base64": (text, prefix) => base64(prefix + [...text].map(percent).join("")),
  "in base64 twice": (text, prefix) => base64(base64(prefix + text)),
};

/** Everything that can be read out of a text, by the means that a finder of a log has. */
function* readings(text: string, depth = 2): Generator<string> {
  yield text;
  if (depth === 0) return;
  const plain = text.replace(/%[0-9a-f]{2}/gi, (code) => String.fromCharCode(parseInt(code.slice(1), 16)));
  if (plain !== text) yield* readings(plain, depth - 1);
  for (const [run] of text.matchAll(/[A-Za-z0-9+/_-]{8,}/g)) {
    for (let from = 0; from < 4; from++) {
      yield* readings(Buffer.from(run.slice(from), "base64").toString("latin1"), depth - 1);
    }
  }
}

/** The longest piece of a key that can be read in a text, if it is too long. */
function pieceOf(secret: string, text: string): string | null {
  const pieces = Array.from(
    { length: secret.length - TOO_MANY + 1 },
    (_, from) => secret.slice(from, from + TOO_MANY).toLowerCase(),
  );
  for (const reading of readings(text)) {
    const low = reading.toLowerCase();
    const found = pieces.find((piece) => low.includes(piece));
    if (found !== undefined) return found;
  }
  return null;
}

describe.each(Object.entries(FORMS))("[security.repeated-key] a key %s", (_, form) => {
  test("is found, whole and cut at 12 characters or more from either end, whatever stands around it", () => {
    fc.assert(
      fc.property(
        key,
        around,
        around,
        fc.string({ unit: fc.constantFrom(..."ab:"), maxLength: 5 }),
        fc.constantFrom("whole", "beginning", "end"),
        fc.nat(),
        fc.infiniteStream(fc.boolean()),
        (secret, before, after, prefix, part, cut, flips) => {
          const length = TOO_MANY + cut % (secret.length - TOO_MANY + 1);
          const given = part === "whole"
            ? secret
            : part === "beginning"
            ? secret.slice(0, length)
            : secret.slice(-length);
          const random = () => flips.next().value as boolean;
          const said = redact(`${before} ${form(given, prefix, random)} ${after}`, secret);
          expect(pieceOf(secret, said)).toBeNull();
          expect(said).toContain("[redacted]");
        },
      ),
      { numRuns: 150 },
    );
  });
});

test("what does not hold the key stays as it is", () => {
  fc.assert(fc.property(key, fc.string({ unit: "grapheme", maxLength: 400 }), (secret, text) => {
    fc.pre(pieceOf(secret, text) === null && !text.includes("api_key:"));
    expect(redact(text, secret)).toBe(text);
  }));
  const said =
    "Incorrect API key provided: sk-pr***wxyz. You can find your API key at https://platform.openai.com";
  expect(redact(said, "sk-proj-abcdefghijklmnopqrstuvwxyz")).toBe(said);
});

test("a piece that is shorter tells keys apart, and is left", () => {
  const secret = "sk-proj-0123456789abcdefghij";
  expect(redact(`no key ${secret.slice(0, 11)}`, secret)).toBe(`no key ${secret.slice(0, 11)}`);
  expect(redact(`no key ${secret.slice(0, 12)}`, secret)).toBe("no key [redacted]");
  expect(redact(`no key ${secret.slice(-11)}`, secret)).toBe(`no key ${secret.slice(-11)}`);
  expect(redact(`no key ${secret.slice(-12)}`, secret)).toBe("no key [redacted]");
});

test.each([
  ["demo-key-a", "No key DEMO-KEY-A here", "No key [redacted] here"],
  ["demo-key-a", `Basic ${btoa("x:demo-key-a")} is none`, /^Basic \S*\[redacted\]\S* is none$/],
  ["demo-key-a", "?key=demo%2Dkey%2Da&alt=sse", "?key=[redacted]&alt=sse"],
  ["abc", "the abc of it", "the [redacted] of it"],
  ["abc", "the ABC of it", "the ABC of it"],
  ["", "nothing to hide", "nothing to hide"],
  ["some-other-key", "Consumer 'api_key:AIzaOfSomebody' is none", "Consumer 'api_key:[redacted]' is none"],
])("a short key, %s: whole", (secret, text, said) => {
  const redacted = redact(text, secret);
  if (typeof said === "string") expect(redacted).toBe(said);
  else expect(redacted).toMatch(said);
});

test("a line break in the middle of base64 hides nothing", () => {
  const secret = "a-key-of-some-length-that-is-wrapped-by-a-mail-program-somewhere";
  const wrapped = base64(`user:${secret}`).replace(/.{20}/g, "$&\r\n");
  expect(pieceOf(secret, redact(wrapped, secret).replace(/[\r\n]/g, ""))).toBeNull();
});

describe("work is bounded", () => {
  const secret = "sk-" + "0123456789abcdef".repeat(8);
  test.each([
    ["prose", "the key is wrong and so is the rest of it, ".repeat(50_000)],
    ["letters that all stand in the key", "0123456789abcde".repeat(150_000)],
    ["base64 of it, over and over", base64("0123456789abcde".repeat(100_000))],
    ["percent signs", "%30%31%32".repeat(200_000)],
    ["one letter", "a".repeat(2_000_000)],
  ])("an error of 2 MB of %s is cut before it is searched", (_, text) => {
    const said = redact(text, secret);
    expect(said.length).toBeLessThan(20_000);
    expect(pieceOf(secret, said.slice(-200))).toBeNull();
  });

  test("where it is cut, no beginning of the key is left", () => {
    for (let from = 0; from < 140; from++) {
      const said = redact("x ".repeat(8_150) + "y".repeat(from) + secret + " rest", secret);
      expect(pieceOf(secret, said)).toBeNull();
    }
  });
});

test("[security.repeated-key] errors of every upstream, and Google's, go through it", async () => {
  const secret = "a-key-that-nobody-may-see";
  const body = `no ${btoa(secret)} and no ${secret.slice(0, 14)}`;
  const answered = await callUpstream({
    url: "http://upstream.test",
    headers: {},
    secret,
    signal: new AbortController().signal,
    fetch: () => Promise.resolve(new Response(body, { status: 400 })),
    errorMapping: {
      messageIn: () => null,
      diagnose: () => ({ fault: "nobody", retryable: false, block: null, code: "internal" }),
    },
  }).catch((error) => error);
  expect(answered).toBeInstanceOf(ProviderFailure);
  expect(answered.message).toBe("no [redacted]== and no [redacted]");
  expect(diagnosed({ status: 400, message: body, details: [] }, secret).message).toBe(
    "no [redacted]== and no [redacted]",
  );
});
