/** What the command line understands and how it shows things. */
import { connect } from "../../../cli/eve/connection.ts";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readCommandLine } from "../../../cli/eve/arguments.ts";
import { bar } from "../../../cli/eve/chart.ts";
import { COMMANDS } from "../../../cli/eve/commands.ts";
import { eve } from "../../../cli/eve.ts";
import { csv } from "../../../shared/runtime/csv.ts";
import { namedEvents } from "../../../cli/eve/named_events.ts";
import { readInstant } from "../../../cli/eve/period.ts";
import { pacificHour, pacificMidnight, wholeDays } from "../../../shared/runtime/pacific_days.ts";
import {
  newProfile,
  profilesPath,
  readProfiles,
  secretKeyOf,
  writeProfiles,
} from "../../../cli/eve/profiles.ts";
import { terminalProgress } from "../../../cli/eve/progress.ts";
import { readable } from "../../../cli/eve/request_lines.ts";
import { bytes, duration, shortened, table } from "../../../cli/eve/table.ts";

const read = (...args: string[]) => readCommandLine(args, COMMANDS);
/** What it throws for a line that makes no sense. */
const refusal = (...args: string[]) => {
  try {
    read(...args);
  } catch (thrown) {
    return thrown as { message: string; exitCode: number };
  }
  throw new Error("it made sense");
};

describe("a command line", () => {
  test("has its options anywhere, those of every command included", () => {
    for (const line of ["--json keys show main --profile x", "keys --profile x show --json main"]) {
      const asked = read(...line.split(" "));
      expect(asked).toMatchObject({ kind: "run", json: true, profile: "x", command: { name: "keys show" } });
      expect(asked.kind === "run" && asked.given.arguments).toEqual(["main"]);
    }
  });

  test("gives options and switches by the names that the help has", () => {
    const asked = read("consumers", "add", "x", "--requests-per-day", "5", "--kind=service");
    if (asked.kind !== "run") throw new Error("not run");
    expect(asked.given.option("requests-per-day")).toBe("5");
    expect(asked.given.option("kind")).toBe("service");
    expect(asked.given.option("models")).toBeUndefined();
    const doctor = read("doctor", "--no-call");
    if (doctor.kind !== "run") throw new Error("not run");
    expect([doctor.given.switch("no-call"), doctor.given.switch("strict")]).toEqual([true, false]);
    const plain = read("doctor");
    expect(plain.kind === "run" && plain.given.switch("no-call")).toBe(false);
  });

  test("may hold words that look like options after --", () => {
    const asked = read("invoke", "--model", "m", "--", "--what", "is this?");
    expect(asked.kind === "run" && asked.given.arguments).toEqual(["--what", "is this?"]);
  });

  test.each<[string[], RegExp]>([
    [["frobnicate"], /Unknown command 'frobnicate'\. See: npm run eve -- --help/],
    [["alrts", "list"], /Did you mean alerts\?/],
    [
      ["usage", "--sinse", "7d"],
      /Unknown option '--sinse' \(Did you mean --since\?\)\. See: npm run eve -- usage --help/,
    ],
    [["keys", "add", "x", "--env"], /argument missing/],
    [["alerts"], /`alerts` needs to know what to do: alerts list, alerts show, alerts close\./],
  ])("%j is told what is wrong and what to try", (args, message) => {
    expect(refusal(...args)).toMatchObject({ message: expect.stringMatching(message), exitCode: 2 });
  });

  test.each([[], ["--help"], ["help"], ["keys", "--help"], ["keys", "add", "-h"], ["help", "doctor"]])(
    "%j is answered with help",
    (...args) => expect(read(...args as unknown as string[])).toMatchObject({ kind: "help" }),
  );
});

describe("a time", () => {
  const clock = {
    now: "2026-11-21T06:30:00.000+00:00",
    pacific_day: "2026-11-20",
    pacific_day_begins: "2026-11-20T08:00:00+00:00",
    pacific_day_ends: "2026-11-21T08:00:00+00:00",
  };
  test.each([
    ["now", clock.now],
    ["today", clock.pacific_day_begins],
    ["yesterday", "2026-11-19T08:00:00.000Z"],
    ["30m", "2026-11-21T06:00:00.000Z"],
    ["24h", "2026-11-20T06:30:00.000Z"],
    ["2w", "2026-11-07T06:30:00.000Z"],
    ["2026-07-01", "2026-07-01T07:00:00.000Z"],
    ["2026-11-21T08:00Z", "2026-11-21T08:00:00.000Z"],
    ["2026-11-21T10:00:00+02:00", "2026-11-21T08:00:00.000Z"],
  ])("%s is %s, by the database's clock and the Pacific day", (text, instant) => {
    expect(readInstant("since", text, clock)).toBe(instant);
  });

  test.each(["tomorrow", "2026-13-01", "2026-11-21T08:00", "7", "-1h", ""])("%j is none", (text) => {
    expect(() => readInstant("since", text, clock)).toThrow(/--since must be a time/);
  });

  test("days begin at midnight in Los Angeles, also where clocks change", () => {
    expect(pacificMidnight("2026-03-08")).toBe("2026-03-08T08:00:00.000Z");
    expect(pacificMidnight("2026-03-09")).toBe("2026-03-09T07:00:00.000Z");
    expect(pacificMidnight("2026-11-01")).toBe("2026-11-01T07:00:00.000Z");
    expect(pacificMidnight("2026-11-02")).toBe("2026-11-02T08:00:00.000Z");
    expect(pacificHour("2026-11-21T06:00:00+00:00")).toBe("2026-11-20 22:00");
    expect(wholeDays(1, "2026-11-21")).toBe("2026-11-21T08:00:00.000Z");
    // Over the end of summer time.
    expect(wholeDays(7, "2026-11-04")).toBe("2026-10-29T07:00:00.000Z");
  });
});

describe("what is shown", () => {
  test("figures stand at the right, words at the left", () => {
    expect(table(["name", "n>"], [["a", "10"], ["long one", "5"]])).toBe(
      "name       n\na         10\nlong one   5",
    );
  });

  test("bars are as long as their share, and what is more than nothing can be seen", () => {
    expect(bar(100, 100, 10)).toBe("██████████");
    expect(bar(50, 100, 10)).toBe("█████");
    expect(bar(31, 100, 10)).toBe("███▏");
    expect(bar(1, 1_000_000, 10)).toBe("▏");
    expect([bar(0, 100, 10), bar(5, 0, 10), bar(5, 5, 0)]).toEqual(["", "", ""]);
  });

  test("times, sizes and texts are short", () => {
    expect([0, 850, 1_234, 12_345, 150_000, 7_200_000, 300_000_000].map(duration)).toEqual([
      "0 ms",
      "850 ms",
      "1.23 s",
      "12.3 s",
      "3 min",
      "2 h",
      "3 d",
    ]);
    expect([999, 1_000, 12_500_000, 500_000_000].map(bytes)).toEqual([
      "999 B",
      "1.0 kB",
      "12.5 MB",
      "500 MB",
    ]);
    expect(shortened("one\n two   three", 9)).toBe("one two …");
  });

  test("a spreadsheet gets its values in quotes where they need them, and no formula", () => {
    expect(csv(["a", "b"], [["plain", 1], ['say "x", y', null], ["=1+1", -5], ["two\nlines", undefined]]))
      .toBe(
        'a,b\r\nplain,1\r\n"say ""x"", y",\r\n\'=1+1,-5\r\n"two\nlines",',
      );
  });

  test.each(["SUPABASE_SECRET_KEYS", "EVE_LOG_LEVEL", "PATH", "HOME", "LD_PRELOAD", "ADMIN_SECRET_KEY"])(
    "keys add: %s is not the name of a key's secret",
    async (name) => {
      const complained: string[] = [];
      const code = await eve(["keys", "add", "x", "--env", name], {
        say: () => {},
        complain: (text) => complained.push(text),
        connect: () => {
          throw new Error("nobody is asked");
        },
      });
      expect(code).toBe(2);
      expect(complained.join()).toContain(`${name} is reserved`);
    },
  );

  test.each(["=1+1", "+1", "-1", "@A1", "\t=1", "\r=1", "\n=1", " =1", "＝1", "＋1", "－1", "＠A1"])(
    "%j in a cell is text",
    (formula) => expect(csv(["a"], [[formula]]).replaceAll('"', "")).toBe(`a\r\n'${formula}`),
  );

  test("progress is written over at a terminal, and nowhere else", () => {
    const written: string[] = [];
    const to = (isTerminal: boolean) => ({
      isTerminal: () => isTerminal,
      writeSync: (piece: Uint8Array) => written.push(new TextDecoder().decode(piece)),
    });
    const show = terminalProgress(to(true));
    show("");
    show("one");
    show("x".repeat(200));
    show("");
    expect(written).toEqual(["\r\x1b[Kone", `\r\x1b[K${"x".repeat(78)}`, "\r\x1b[K"]);
    terminalProgress(to(false))("one");
    expect(written).toHaveLength(3);
  });
});

test("what was captured reads as a conversation", () => {
  expect(readable({
    systemInstruction: { parts: [{ text: "Be short." }] },
    contents: [
      {
        role: "user",
        parts: [{ text: "What is this?" }, { inlineData: { mimeType: "image/png", data: "AAAA" } }],
      },
    ],
  })).toBe(
    'system: Be short.\nuser: What is this?(inlineData: {"inlineData":{"mimeType":"image/png","data":"AAAA"}})',
  );
  expect(readable({
    candidates: [{
      content: { parts: [{ text: "Hm.", thought: true }, { text: "A cat." }] },
      finishReason: "STOP",
    }],
  })).toBe("(thought: Hm.)\nA cat.\nSTOP");
  expect(readable({ truncated: true, bytes: 300_000, head: '{"contents"' })).toContain("300,000 bytes");
  expect([readable(null), readable("plain"), readable({ other: 1 })]).toEqual([
    "nothing",
    "plain",
    '{\n  "other": 1\n}',
  ]);
});

describe("a profile", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await Deno.makeTempDir();
  });
  afterAll(() => Deno.remove(folder, { recursive: true }));

  test("names a project and where its key is, never the key", () => {
    expect(newProfile("production", { projectRef: "abcdefghijklmnopqrst", keyEnv: "EVE_KEY" })).toEqual({
      url: "https://abcdefghijklmnopqrst.supabase.co",
      secret_key_env: "EVE_KEY",
    });
    expect(newProfile("app", { url: "https://x.example", keyEnv: "K", prefix: "eve-" })).toMatchObject({
      function_prefix: "eve-",
    });
    expect(connect("https://x.example", "sb_secret_x", "app", "eve-").functions).toBe(
      "https://x.example/functions/v1/eve-",
    );
    for (
      const wrong of [
        { url: "https://x.example", keyEnv: "K", prefix: "eve" },
        { projectRef: "short", keyEnv: "K" },
        { url: "nonsense", keyEnv: "K" },
        { url: "https://x.example", keyEnv: "K", keyFile: "f" },
        { url: "https://x.example", keyEnv: "sb_secret_not-a-name" },
        { keyEnv: "K" },
      ]
    ) expect(() => newProfile("x", wrong)).toThrow(expect.objectContaining({ exitCode: 2 }));
    expect(() => newProfile("../x", { url: "https://x.example", keyEnv: "K" })).toThrow(/A profile's name/);
  });

  test("is kept in the user's folder, readable by nobody else", () => {
    const variable = (name: string) => ({ HOME: folder })[name];
    const path = profilesPath(variable);
    expect(path).toBe(`${folder}/.config/eve-gateway/profiles.json`);
    expect(readProfiles(path).size).toBe(0);
    writeProfiles(path, new Map([["x", { url: "https://x.example", secret_key_env: "K" }]]));
    expect(readProfiles(path).get("x")).toEqual({ url: "https://x.example", secret_key_env: "K" });
    expect(Deno.statSync(path).mode! & 0o777).toBe(0o600);
    expect(profilesPath((name) => ({ EVE_PROFILES: "/elsewhere.json" })[name])).toBe("/elsewhere.json");
    Deno.writeTextFileSync(path, '{"x": {"url": "https://x.example"}}');
    expect(() => readProfiles(path)).toThrow(/give either secret_key_env or secret_key_file/);
    Deno.writeTextFileSync(path, "{");
    expect(() => readProfiles(path)).toThrow(/is not JSON/);
  });

  test("finds its key in the variable or in the file, and refuses a file that others can read", () => {
    const none = () => undefined;
    const profile = { url: "https://x.example", secret_key_env: "K" };
    expect(secretKeyOf("x", profile, (name) => name === "K" ? " sb_secret_1 \n" : undefined)).toBe(
      "sb_secret_1",
    );
    expect(() => secretKeyOf("x", profile, none)).toThrow(/variable K, which is not set/);
    const path = `${folder}/key`;
    const byFile = { url: "https://x.example", secret_key_file: path };
    expect(() => secretKeyOf("x", byFile, none)).toThrow(/it is not there/);
    Deno.writeTextFileSync(path, "sb_secret_2\n", { mode: 0o600 });
    expect(secretKeyOf("x", byFile, none)).toBe("sb_secret_2");
    expect(
      secretKeyOf(
        "x",
        { ...byFile, secret_key_file: "~/key" },
        (name) => name === "HOME" ? folder : undefined,
      ),
    )
      .toBe("sb_secret_2");
    Deno.chmodSync(path, 0o640);
    expect(() => secretKeyOf("x", byFile, none)).toThrow(/chmod 600/);
    expect(() => secretKeyOf("x", byFile, none)).toThrow(expect.not.stringContaining("sb_secret"));
  });
});

test("events are read whole, however they are cut on the way", async () => {
  const text =
    'event: delta\ndata: {"text":"Привет"}\n\n: a comment\n\nevent: done\r\ndata: {"model":"m"}\r\n\r\n';
  const whole = new TextEncoder().encode(text);
  for (const size of [1, 7, 1_000]) {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let at = 0; at < whole.length; at += size) controller.enqueue(whole.slice(at, at + size));
        controller.close();
      },
    });
    const events = [];
    for await (const event of namedEvents(body)) events.push(event);
    expect(events, String(size)).toEqual([
      { event: "delta", data: { text: "Привет" } },
      { event: "done", data: { model: "m" } },
    ]);
  }
});
