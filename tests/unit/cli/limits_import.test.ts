/** Tables as they come out of Google's documentation, AI Studio and spreadsheets. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { csv } from "../../../shared/runtime/csv.ts";
import { cellsOf } from "../../../shared/limits/cells.ts";
import { idFrom, knownModel } from "../../../shared/limits/model_name.ts";
import { planImport } from "../../../shared/limits/plan.ts";
import { readQuantity } from "../../../shared/limits/quantity.ts";
import { readLimitsTable } from "../../../shared/limits/table.ts";

const KNOWN = [
  "gemini-2.5-flash",
  "gemini-3.5-flash",
  "gemini-3.5-flash-lite",
  "gemini-embedding-001",
  "gemma-3-27b",
  "gemma-3-27b-it",
  "gemma-4-26b-a4b-it",
  "gemma-4-31b-it",
];

describe("a limit", () => {
  test.each<[string, number]>([
    ["5", 5],
    ["250,000", 250_000],
    ["4,000,000", 4_000_000],
    ["1 000 000", 1_000_000],
    ["1'000'000", 1_000_000],
    ["250K", 250_000],
    ["250k", 250_000],
    ["1.5M", 1_500_000],
    ["4 M", 4_000_000],
    ["2B", 2_000_000_000],
    ["0", 0],
    ["10 RPM", 10],
    ["250,000 tokens", 250_000],
    ["3 / 10", 10],
    ["1.2K / 250K", 250_000],
    ["1,500*", 1_500],
  ])("%s is %i", (text, value) => expect(readQuantity(text)).toEqual({ kind: "number", value }));

  test.each(["Unlimited", "unlimited", "No limit", "∞", "12 / Unlimited"])("%s is no limit", (text) => {
    expect(readQuantity(text)).toEqual({ kind: "unlimited" });
  });

  test.each(["", "-", "–", "—", "--", "*", "N/A", "n/a"])("%j says nothing", (text) => {
    expect(readQuantity(text)).toEqual({ kind: "unsaid" });
  });

  test.each([
    "1.500",
    "1,5",
    "1,50,000",
    "1,5M",
    "12,34",
    "about 5",
    "5-10",
    "1e6",
    "-5",
    "3000M",
    "4G",
    "1..5M",
    "²",
  ])(
    "%s is not guessed at",
    (text) => expect(readQuantity(text)).toMatchObject({ kind: "unreadable" }),
  );
});

describe("a model's name", () => {
  test.each([
    ["Gemini 2.5 Flash", "gemini-2.5-flash"],
    ["Gemini 3.5 Flash-Lite", "gemini-3.5-flash-lite"],
    ["gemini-3.5-flash-lite", "gemini-3.5-flash-lite"],
    ["models/gemini-2.5-flash", "gemini-2.5-flash"],
    ["Gemma 4 31B", "gemma-4-31b-it"],
    ["Gemma 4 26B A4B", "gemma-4-26b-a4b-it"],
    ["Gemma 3 27B", "gemma-3-27b"],
    ["Gemini Embedding", "gemini-embedding-001"],
    ["GEMINI 2.5 FLASH (free tier)", "gemini-2.5-flash"],
  ])("%s is %s", (name, id) => expect(knownModel(name, KNOWN)).toBe(id));

  test.each(["Gemini 2.5", "Gemma 3 & 3n", "Gemini 2.5 Flash Image", "Veo 3"])(
    "%s is none that is known",
    (name) => {
      expect(knownModel(name, KNOWN)).toBeNull();
    },
  );

  test("one that is new gets the id that its name says", () => {
    expect(idFrom("Gemini 9 Flash-Lite Preview")).toBe("gemini-9-flash-lite-preview");
  });
});

describe("a table", () => {
  const flash = { name: "Gemini 2.5 Flash", limits: { rpm: 10, tpm: 250_000, rpd: 250 } };

  test("of Google's documentation, as Markdown, with titles between its rows", () => {
    const { rows, problems } = readLimitsTable(`
# Rate limits

| Model | RPM | TPM | RPD |
| :--- | ---: | ---: | ---: |
| **Text-out models** | | | |
| Gemini 2.5 Flash | 10 | 250,000 | 250 |
| Gemini 3.5 Flash-Lite[^1] | 15 | 250,000 | 1,000 |
| **Other models** | | | |
| \`gemma-4-31b-it\` | 30 | 16,000 | 14,400 |
`);
    expect(problems).toEqual([]);
    expect(rows).toEqual([
      { line: 7, ...flash },
      { line: 8, name: "Gemini 3.5 Flash-Lite", limits: { rpm: 15, tpm: 250_000, rpd: 1_000 } },
      { line: 10, name: "gemma-4-31b-it", limits: { rpm: 30, tpm: 16_000, rpd: 14_400 } },
    ]);
  });

  test("as TSV, which is what a browser copies", () => {
    const { rows, problems } = readLimitsTable(
      "Model\tRequests per minute (RPM)\tTokens per minute (input) (TPM)\tRequests per day (RPD)\r\n" +
        "Text-out models\r\nGemini 2.5 Flash\t10\t250,000\t250\r\n",
    );
    expect([rows, problems]).toEqual([[{ line: 3, ...flash }], []]);
  });

  test("as CSV of a spreadsheet, with quotes, a byte order mark and other columns", () => {
    const { rows, problems } = readLimitsTable(
      '\uFEFFModel,Category,RPM,TPM,RPD\n"Gemini 2.5 Flash","Text-out, ""fast""","2 / 10","1.2K / 250K",0 / 250\n',
    );
    expect([rows, problems]).toEqual([[{ line: 2, ...flash }], []]);
  });

  test("with semicolons, columns in another order, and limits that it does not state", () => {
    const { rows } = readLimitsTable("RPD;Model;RPM\n250;Gemini 2.5 Flash;10\n-;Gemma 4 31B;Unlimited\n");
    expect(rows).toEqual([
      { line: 2, name: "Gemini 2.5 Flash", limits: { rpm: 10, rpd: 250 } },
      { line: 3, name: "Gemma 4 31B", limits: { rpm: null } },
    ]);
  });

  test("in which the id counts where there is one beside the name", () => {
    const { rows } = readLimitsTable("Name\tModel ID\tRPM\nThe fast one\tgemini-2.5-flash\t10\n");
    expect(rows).toEqual([{ line: 2, name: "gemini-2.5-flash", limits: { rpm: 10 } }]);
  });

  test("of Markdown without bars at its sides", () => {
    expect(readLimitsTable("Model | RPM\n--- | ---\nGemini 2.5 Flash | 10\n").rows).toEqual([
      { line: 3, name: "Gemini 2.5 Flash", limits: { rpm: 10 } },
    ]);
  });

  test("with a value over two lines keeps count of the lines", () => {
    const { problems } = readLimitsTable('Model,RPM\n"Gemini\n2.5 Flash",10\nGemma 4 31B,lots\n');
    expect(problems).toEqual([{ line: 4, message: 'RPM of Gemma 4 31B: "lots" is not a number' }]);
  });

  test.each<[string, string, { line: number; message: RegExp }]>([
    ["has no headings", "Gemini 2.5 Flash,10,250,250\n", {
      line: 1,
      message: /Model, and at least one of RPM/,
    }],
    ["is empty", "", { line: 1, message: /no line names the columns/ }],
    ["has headings only", "Model,RPM\n", { line: 1, message: /no row under the headings/ }],
    [
      "has thousands without quotes",
      "Model,RPM,TPM,RPD\nGemini 2.5 Flash,10,250,000,250\n",
      { line: 2, message: /5 cells under 4 headings.*in quotes/ },
    ],
    ["has an open quote", 'Model,RPM\nx,1\n"Gemini 2.5\nFlash,10\n', {
      line: 3,
      message: /quotes .* not closed/,
    }],
    ["lacks a name", "Model,RPM\n,10\n", { line: 2, message: /name is missing/ }],
    ["has two columns of one kind", "Model,RPM,RPM\nx,1,2\n", { line: 1, message: /two columns like "RPM"/ }],
    [
      "has a number that may be two",
      "Model,RPM,TPM\nGemini 2.5 Flash,10,1.500\n",
      { line: 2, message: /TPM of Gemini 2.5 Flash: "1.500" may mean several/ },
    ],
  ])("that %s is refused with its line", (_, text, problem) => {
    expect(readLimitsTable(text).problems).toEqual([
      { line: problem.line, message: expect.stringMatching(problem.message) },
    ]);
  });

  test("reports all that is wrong at once", () => {
    const { problems } = readLimitsTable("Model,RPM,TPM\nA,x,y\nB,1,z\n");
    expect(problems.map(({ line }) => line)).toEqual([2, 2, 3]);
  });
});

describe("what would change", () => {
  const now = {
    models: KNOWN.map((model) => ({
      model,
      rpm: 5,
      tpm: 250_000,
      rpd: 20,
      is_active: true,
      shares: {
        batch_floor: 0.1,
        interactive_floor: 0,
        interactive_reserve: 0,
        interactive_reserve_day: 0.1,
      },
      replaced_by: null,
      updated_at: null,
    })),
    overrides: [{
      quota_project: "paid",
      model: "gemini-2.5-flash",
      rpm: 1_000,
      tpm: null,
      rpd: 10_000,
      notes: null,
      updated_at: "2026-11-21T00:00:00Z",
    }],
    quota_projects: ["paid", "free"],
  };
  const plan = (text: string, options: { quotaProject?: string; addModels?: boolean } = {}) =>
    planImport(readLimitsTable(text), now, { addModels: false, ...options });

  test("is shown with before and after, what is not stated stays", () => {
    expect(plan("Model,RPM,RPD\nGemini 2.5 Flash,10,-\nGemini 3.5 Flash,5,20\nVeo 3,1,1\n")).toEqual({
      changes: [{
        line: 2,
        model: "gemini-2.5-flash",
        before: { rpm: 5, tpm: 250_000, rpd: 20 },
        after: { rpm: 10, tpm: 250_000, rpd: 20 },
      }],
      unchanged: ["gemini-3.5-flash"],
      unknown: [{ line: 4, name: "Veo 3", id: "veo-3" }],
      problems: [],
    });
  });

  test("is compared with the quota project's own where it has some", () => {
    const { changes } = plan("Model,RPM\nGemini 2.5 Flash,2000\nGemini 3.5 Flash,9\n", {
      quotaProject: "paid",
    });
    expect(changes).toMatchObject([
      { before: { rpm: 1_000, tpm: null, rpd: 10_000 }, after: { rpm: 2_000, tpm: null, rpd: 10_000 } },
      { before: { rpm: 5, tpm: 250_000, rpd: 20 }, after: { rpm: 9, tpm: 250_000, rpd: 20 } },
    ]);
  });

  test("has new models only where they are wanted", () => {
    const { changes, unknown } = plan("Model,RPM\nGemini 9 Flash,3\n", { addModels: true });
    expect(unknown).toEqual([]);
    expect(changes).toEqual([
      { line: 2, model: "gemini-9-flash", before: null, after: { rpm: 3, tpm: null, rpd: null } },
    ]);
  });

  test("a name that can be no id is not added", () => {
    const { problems } = plan("Model,RPM\nGemma 3 & 3n,3\n", { addModels: true });
    expect(problems).toEqual([{ line: 2, message: expect.stringContaining("is not a model's name") }]);
  });

  test("two tiers in one file are refused, the same row twice is not", () => {
    const twice = "Model,RPM\nGemini 2.5 Flash,10\ngemini-2.5-flash,10\n";
    expect(plan(twice).problems).toEqual([]);
    expect(plan(twice.replace(/10\n$/, "1000\n")).problems).toEqual([
      { line: 3, message: expect.stringContaining("other limits on line 2") },
    ]);
  });
});

test("a cell full of the other separator does not turn the table", () => {
  expect(cellsOf("a,b\n1,x;;;;;y").map(({ cells }) => cells)).toEqual([["a", "b"], ["1", "x;;;;;y"]]);
  expect(cellsOf("a;b\n1,5,6,7;2").map(({ cells }) => cells)).toEqual([["a", "b"], ["1,5,6,7", "2"]]);
});

test("whatever a spreadsheet writes is read as it was", () => {
  // Letters, digits and everything that has a meaning in CSV, but no blanks at the ends, which are trimmed.
  const cell = fc.stringMatching(/^[a-z0-9][a-z0-9,;"\n ]{0,12}[a-z0-9]$/).map((text) =>
    text.replaceAll(/ +/g, " ")
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(cell, cell, cell), { minLength: 1, maxLength: 8 }), (rows) => {
      const read = cellsOf(csv(["first", "second", "third"], rows)).map(({ cells }) => cells);
      const flat = (text: string) => text.replaceAll(/\s+/g, " ");
      expect(read).toEqual([["first", "second", "third"], ...rows.map((row) => row.map(flat))]);
    }),
    { numRuns: 300 },
  );
});

test("nothing that is pasted ends it: it is rows, or problems with their lines", () => {
  const text = fc.array(
    fc.constantFrom(
      "Model",
      "RPM",
      "TPM",
      "|",
      ",",
      "\t",
      ";",
      '"',
      "\n",
      "---",
      "10",
      "4M",
      "1.5",
      "gemma",
      " ",
      "\\",
      "(",
      "[1]",
    ),
    { maxLength: 60 },
  ).map((pieces) => pieces.join(""));
  fc.assert(
    fc.property(text, (pasted) => {
      const { rows, problems } = readLimitsTable(pasted);
      expect(rows.length + problems.length).toBeGreaterThan(0);
      const lines = pasted.split("\n").length;
      for (const { line } of [...rows, ...problems]) expect(line >= 1 && line <= lines).toBe(true);
    }),
    { numRuns: 500 },
  );
});

test("a table of nothing but brackets is read at once", () => {
  // Looking for the end of each took half a minute.
  expect(readLimitsTable("[".repeat(200_000)).rows).toEqual([]);
  expect(readLimitsTable(`Model,RPM\ngemma-4-31b-it${"[".repeat(50_000)},5`).rows).toHaveLength(1);
}, 60_000);
