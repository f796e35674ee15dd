/** Names and answers come from others: none of them may do anything to the owner's terminal. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { eve } from "../../../cli/eve.ts";
import type { Connection } from "../../../cli/eve/connection.ts";
import { safeForTerminal } from "../../../cli/eve/terminal.ts";
import { CHECKOUT } from "../../../local/paths.ts";
import { callsIn, sourcesIn } from "../../harness/source_calls.ts";

// deno-lint-ignore no-control-regex -- the escape that begins our own colours.
const OUR_COLOURS = /\x1b\[(0|1|2|31|32|33|34)m/g;

/** What a terminal acts on, or what turns the order of letters. */
const DANGEROUS =
  // deno-lint-ignore no-control-regex -- they are what is looked for.
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]|[\u{e0000}-\u{e007f}]|\p{Cs}/u;
const withoutLineEnds = (text: string) => text.replaceAll("\r\n", "\n");

describe("[security.terminal] text for a terminal", () => {
  test.each<[string, string, string]>([
    ["a title", "\x1b]0;owned\x07", "\\u001b]0;owned\\u0007"],
    ["a cleared screen", "gemma\x1b[2J\x1b[1;1H", "gemma\\u001b[2J\\u001b[1;1H"],
    ["the same in one character", "\x9b2J", "\\u009b2J"],
    ["a line written over", "denied\rgranted", "denied\\u000dgranted"],
    ["letters taken back", "abc\b\b\b\x7f", "abc\\u0008\\u0008\\u0008\\u007f"],
    [
      "letters in another order",
      "\u202egpj.exe\u202c \u2066x\u2069",
      "\\u202egpj.exe\\u202c \\u2066x\\u2069",
    ],
    ["tags that nobody sees", "a\u{e0041}", "a\\udb40\\udc41"],
    ["half a character", "a\ud800", "a\\ud800"],
    ["hidden text, which is none of our colours", "\x1b[8msecret", "\\u001b[8msecret"],
  ])("%s is shown, not done", (_, text, shown) => {
    expect(safeForTerminal(text, true)).toBe(shown);
    expect(safeForTerminal(text, false)).toBe(shown);
  });

  test("letters of all scripts, line ends and tabs stay as they are", () => {
    const text = "Концерт 音楽 שלום 👩‍🎤\r\n\tmore\n";
    expect(safeForTerminal(text, false)).toBe(text);
  });

  test("our colours are let through where there are colours", () => {
    expect(safeForTerminal("\x1b[31mred\x1b[0m", true)).toBe("\x1b[31mred\x1b[0m");
    expect(safeForTerminal("\x1b[31mred\x1b[0m", false)).toBe("\\u001b[31mred\\u001b[0m");
  });

  const anything = fc.array(
    fc.oneof(
      fc.string({ unit: "binary" }),
      fc.constantFrom("\x1b", "\x1b[31m", "\x9b", "\r", "\r\n", "\u202e", "\ud800", "\u{e0001}", "[2J"),
    ),
  ).map((pieces) => pieces.join(""));

  test("whatever comes in: nothing dangerous goes out", () => {
    fc.assert(fc.property(anything, (text) => {
      expect(withoutLineEnds(safeForTerminal(text, false))).not.toMatch(DANGEROUS);
      const coloured = safeForTerminal(text, true).replaceAll(OUR_COLOURS, "");
      expect(withoutLineEnds(coloured)).not.toMatch(DANGEROUS);
    }));
  });

  test("JSON stays the same value", () => {
    fc.assert(fc.property(anything, (text) => {
      expect(JSON.parse(safeForTerminal(JSON.stringify({ text }), false))).toEqual({ text });
    }));
  });
});

describe("[security.terminal] the command line", () => {
  const EVIL = "gemma\x1b]0;owned\x07\x9b2J\u202eslave\rok";
  const event = {
    at: "2026-11-22T10:00:00Z",
    request_no: null,
    refusal_no: 1,
    request_id: EVIL,
    state: "refused",
    consumer: EVIL,
    requested_model: EVIL,
    model: EVIL,
    key: EVIL,
    attempts: 1,
    wait_ms: 0,
    duration_ms: null,
    input_tokens: null,
    output_tokens: null,
    error_code: "unknown_model",
    limit: null,
    retry_after_ms: null,
  };

  test.each([[[]], [["--json"]]])(
    "tail %j prints a model's name, and does nothing that is in it",
    async (more) => {
      const written: string[] = [];
      const over = new AbortController();
      const out = (text: string) => void written.push(text);
      const connect = () =>
        ({
          reading: {
            tail: () => {
              over.abort();
              return Promise.resolve({ events: [event], cursor: {} });
            },
          },
        }) as unknown as Connection;
      const place = { say: out, complain: out, write: out, progress: out, connect, signal: over.signal };
      await eve(["tail", ...more], place);
      expect(written.join("\n")).toContain("gemma\\u001b]0;owned\\u0007");
      expect(written.join("\n")).not.toMatch(DANGEROUS);
    },
  );

  test("a complaint repeats a name safely", async () => {
    const written: string[] = [];
    const out = (text: string) => void written.push(text);
    const connect = () => ({ reading: { keys: () => Promise.resolve([]) } }) as unknown as Connection;
    expect(await eve(["keys", "show", EVIL], { say: out, complain: out, connect })).toBe(1);
    expect(written.join("\n")).toContain("gemma\\u001b]0;owned");
    expect(written.join("\n")).not.toMatch(DANGEROUS);
  });
});

describe("[security.terminal] every program of cli/", () => {
  /** The command line's own ways out, which `eve` guards before it uses any of them: see the tests above. */
  const GUARDED = [
    "console.log(text)",
    "console.error(text)",
    "stdout.writeSync(new TextEncoder().encode(text))",
  ];

  test("writes what is safe for a terminal, and nothing else", () => {
    const writing =
      /console\.\w+\(|\b(?:stdout|stderr|to)\.write(?:Sync)?\(|\.question\(|globalThis\.(?:alert|confirm|prompt)\(/g;
    const calls = sourcesIn("cli").flatMap((path) => callsIn(path, writing));
    expect(calls.length).toBeGreaterThan(10);
    const raw = calls.filter(([where, call]) =>
      !call.includes("safeForTerminal(") && !(where.startsWith("cli/eve.ts:") && GUARDED.includes(call))
    );
    expect(raw).toEqual([]);
  });

  test("hands the terminal to nobody else", () => {
    // Files that know the standard output or error, in whatever way.
    const knowing = sourcesIn("cli").flatMap((path) =>
      Deno.readTextFileSync(`${CHECKOUT}/${path}`).split("\n")
        .filter((line) =>
          /\b(?:Deno|process)\.std(?:out|err)\b|\bstd(?:out|err)\b.*= Deno\b/.test(line) &&
          !/\.std(?:out|err)\.(?:isTerminal|writeSync)\(/.test(line)
        )
        .map((line) => `${path}: ${line.trim()}`)
    );
    expect(knowing.sort()).toEqual([
      "cli/eve/progress.ts: to: { isTerminal(): boolean; writeSync(bytes: Uint8Array): number } = Deno.stderr,",
      "cli/eve/secret_prompt.ts: const { stdin, stderr } = Deno;",
      "cli/install/eve_gateway.ts: const terminal = createInterface({ input: process.stdin, output: process.stdout });",
    ]);
  });
});
