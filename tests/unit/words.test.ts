/** The words of docs/contributing.md hold everywhere: what a name or a sentence was called before does not come back. */
import { expect, test } from "vitest";

const root = new URL("../../", import.meta.url);

/** What is not read: what others wrote, what programs write, and texts that are data. */
const LEFT_OUT = new Set([
  "node_modules",
  ".git",
  ".local",
  ".ci",
  "dist",
  "fixtures",
  "texts",
  "pictures",
  "package-lock.json",
  "words.test.ts",
]);
const ENDINGS = /\.(ts|tsx|mjs|sql|md|py|json|yml|toml|txt|sh)$/;

interface Rule {
  was: RegExp;
  is: string;
  /** Where the word means something else: what a path ends in, and why it may stay. */
  except?: Readonly<Record<string, string>>;
}

const anywhere = (word: string) => new RegExp(`\\b(?:${word})\\b`, "i");

/** Everywhere: in names, comments, texts and prose. */
const WORDS: readonly Rule[] = [
  {
    was: anywhere("doors?"),
    is: "endpoint",
    except: {
      "examples/document_chat.ts": "The text of the example is about a house.",
      "tests/examples/document_chat.test.ts": "The text of the example is about a house.",
    },
  },
  { was: anywhere("entrances?"), is: "router" },
  { was: anywhere("journeys?"), is: "run" },
  { was: anywhere("setbacks?"), is: "failed attempt" },
  { was: anywhere("mend(s|ed|ing)?"), is: "repair, fix" },
  { was: anywhere("leash|rope"), is: "linked abort" },
  { was: anywhere("alarms?"), is: "coalesced timers" },
  { was: anywhere("standing queue"), is: "a lasting queue, which the adaptive batch size shortens" },
  {
    was: anywhere("gather(s|ed|ing)?"),
    is: "accumulate, collect",
    except: {
      "_python.test.ts": "asyncio.gather",
      "_package.py": "asyncio.gather",
      "test_eve_gateway.py": "asyncio.gather",
    },
  },
  { was: anywhere("text ?(shapes?|weights?)"), is: "token features, token weights" },
  { was: anywhere("request ?story"), is: "canonical log line" },
  { was: anywhere("job ?desk"), is: "job service" },
  { was: anywhere("(answer|embed)[ _]?task"), is: "chat task, embedding task" },
  { was: anywhere("blames?|blamed|manners"), is: "fault, error mapping" },
  { was: anywhere("catalogues?"), is: "registry" },
  { was: /\bkept[ _]?[kK]eys?\b|\bKeptKeys?\b/, is: "stored keys" },
  { was: anywhere("departures?"), is: "disconnects" },
  { was: anywhere("kept databases?"), is: "supervised Postgres" },
  { was: /\bthe dead\b(?! letter)|\bclear_?dead\b/i, is: "expired leases" },
  { was: anywhere("(in|is) a circle"), is: "deadlock, cycle" },
  { was: anywhere("lets? (it |them |him |her )?go of|let go|letting go|let_?go"), is: "release" },
  { was: anywhere("at_length|short way"), is: "full path, fast path" },
  { was: anywhere("anew"), is: "again" },
  { was: anywhere("whoever"), is: "those who, anyone who, the caller" },
  {
    was: /(?<!\^)\b(?:he|him|his|himself)\b/i,
    is: "the caller, they",
  },
];

/** Ordinary words that were names: as such they do not come back. */
const NAMES: readonly Rule[] = [
  { was: /\btold\b|\b[tT]old[A-Z]|\w_told\b|\btold_\w|\bTold\b/, is: "answered, listed, sent" },
  {
    was: /\blook(ed)?(At|For|Up)?\(|\bLook(ed)?(At)?[A-Z]\w*|\bLOOKS?_\w+|\blookedAt\b/,
    is: "probe, check, analyse",
  },
  { was: /\bMOST_TOGETHER\b|\btogether\(/, is: "batcher" },
  {
    was: /\b(House|Office|Works|Surroundings|Visit|Arrival|Mend|Seal|Ways)\b/,
    is: "dependencies, request context, repair, encryption, strategies",
    except: { "console/src/shell.tsx": "House is an icon of lucide." },
  },
];

/** Texts, comments and templates hold prose: there these words are ordinary English. */
const PROSE =
  /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`|>[^<>{}\n]*</g;

function* filesIn(folder = ""): Generator<string> {
  for (const { name, isDirectory, isFile } of Deno.readDirSync(new URL(folder || "./", root))) {
    if (LEFT_OUT.has(name) || name.startsWith(".")) continue;
    if (isDirectory) yield* filesIn(`${folder}${name}/`);
    else if (isFile && ENDINGS.test(name)) yield `${folder}${name}`;
  }
}

/** The places of a text that break a rule, one a line. */
function broken(path: string, text: string): string[] {
  const found: string[] = [];
  const check = (rules: readonly Rule[], within: string) => {
    within.split("\n").forEach((line, at) => {
      for (const { was, is, except = {} } of rules) {
        const word = was.exec(line)?.[0];
        if (word === undefined || Object.keys(except).some((end) => path.endsWith(end))) continue;
        found.push(`${path}:${at + 1}: "${word}" is: ${is}`);
      }
    });
  };
  check(WORDS, text);
  if (/\.(ts|tsx|mjs)$/.test(path)) {
    check(NAMES, text.replace(PROSE, (prose) => prose.replace(/[^\n]/g, "")));
  }
  return found;
}

test("no word that was replaced comes back", () => {
  const paths = [...filesIn()];
  expect(paths.length, "files that are read").toBeGreaterThan(1_000);
  expect(paths.flatMap((path) => broken(path, Deno.readTextFileSync(new URL(path, root))))).toEqual([]);
});

test.each([
  ["a.md", "Comes through the door.", 1],
  ["a.sql", "create function eve.clear_dead()", 1],
  ["a.sql", "-- The dead letters stay.", 0],
  ["a.ts", "// Whoever asks anew lets go of it.", 3],
  ["a.ts", "const told = 1;", 1],
  ["a.ts", "// The caller is told why.", 0],
  ["a.ts", 'say("It is told why.");', 0],
  ["a.ts", "await lookAt(picture);", 1],
  ["a.md", "Look at the log.", 0],
  ["examples/document_chat.ts", '"The doors are of oak."', 0],
])("in %s, %j has %i of them", (path, text, count) => {
  expect(broken(path, text)).toHaveLength(count);
});
