import type { LimitsNow, Shares } from "../../../shared/database/reading.ts";
import type { Command } from "../command.ts";
import { CliFailure, EXIT, misuse } from "../failure.ts";
import { changesOf, type ImportPlan, type Limits, planImport } from "../../../shared/limits/plan.ts";
import { readLimitsTable } from "../../../shared/limits/table.ts";
import { bold, count, counted, dim, green, red, table, yellow } from "../table.ts";
import { readLimit, readNumber, readShare } from "../values.ts";

const QUOTA_PROJECT = {
  value: "NAME",
  help: "limits of this quota project's own, in place of the model's (see keys list)",
};

export const limitCommands: Command[] = [
  {
    name: "limits list",
    summary: "the limits of each model, and what differs per quota project",
    arguments: [],
    options: {},
    examples: ["limits list"],
    async run(_given, { connect }) {
      const limits = await connect().reading.limits();
      return { json: limits, text: described(limits) };
    },
  },
  {
    name: "limits set",
    summary: "change limits; the next reservation knows",
    arguments: ["MODEL"],
    options: {
      rpm: { value: "N", help: "requests a minute, or none for no limit" },
      tpm: { value: "N", help: "input tokens a minute" },
      rpd: { value: "N", help: "requests a Pacific day" },
      "batch-floor": {
        value: "PERCENT",
        help: "of each minute and day, what interactive callers leave to batch that waits",
      },
      "interactive-floor": { value: "N", help: "starts of each minute that batch leaves unused" },
      "interactive-reserve": { value: "PERCENT", help: "of each minute, what batch leaves unused" },
      "interactive-reserve-day": {
        value: "PERCENT",
        help: "of each day, what batch leaves to interactive callers",
      },
      "quota-project": QUOTA_PROJECT,
      notes: { value: "TEXT", help: "with --quota-project: a note for people" },
    },
    examples: [
      "limits set gemma-4-31b-it --rpm 30 --tpm 16000 --rpd 14400",
      "limits set gemma-4-31b-it --tpm none",
      "limits set gemma-4-31b-it --batch-floor 20 --interactive-reserve-day 30",
      'limits set gemini-3.5-flash --quota-project events-2 --rpm 1000 --rpd 10000 --notes "paid, tier 1"',
    ],
    async run(given, { connect }) {
      const model = given.arguments[0]!;
      const wanted = {
        rpm: readLimit(given, "rpm"),
        tpm: readLimit(given, "tpm"),
        rpd: readLimit(given, "rpd"),
        batch_floor: readShare(given, "batch-floor"),
        interactive_floor: readNumber(given, "interactive-floor"),
        interactive_reserve: readShare(given, "interactive-reserve"),
        interactive_reserve_day: readShare(given, "interactive-reserve-day"),
      };
      if (Object.values(wanted).every((value) => value === undefined)) {
        throw misuse("Give at least one of --rpm, --tpm, --rpd and the shares (limits set --help).");
      }
      const quotaProject = given.option("quota-project");
      if (quotaProject === undefined && given.option("notes") !== undefined) {
        throw misuse("--notes belongs to --quota-project.");
      }
      const change = Object.fromEntries(Object.entries(wanted).filter(([, value]) => value !== undefined));
      const [row] = await connect().reading.setLimits([{ model, ...change }], {
        quotaProject,
        notes: given.option("notes"),
      });
      if (row === undefined) throw new CliFailure("The project answered with no limits.");
      const whose = quotaProject === undefined ? model : `${model} in ${quotaProject}`;
      return {
        json: row,
        text: `${whose}: ${inWords(row)}.${
          quotaProject === undefined ? ` ${sharesInWords(row.shares)}` : ""
        }`,
      };
    },
  },
  {
    name: "limits clear",
    summary: "take away what a quota project has of its own; the model's limits count again",
    arguments: ["QUOTA_PROJECT", "MODEL?"],
    options: {},
    examples: ["limits clear events-2 gemini-3.5-flash", "limits clear events-2"],
    async run(given, { connect }) {
      const [quotaProject, model] = given.arguments as [string, string?];
      const cleared = await connect().reading.clearLimits(quotaProject, model);
      return {
        json: { quota_project: quotaProject, cleared },
        text: `${quotaProject} has the models' own limits for ${cleared.join(", ")}.`,
      };
    },
  },
  {
    name: "limits import",
    summary: "take limits from a table copied from Google's documentation or AI Studio",
    about:
      `FILE is CSV, TSV or Markdown; - is the standard input. The columns are found by their headings: Model, RPM,
TPM and RPD, or in words ("Requests per minute (RPM)"). 250,000, 250K, 4M and Unlimited are understood, and AI
Studio's "2 / 10"; a dash leaves a limit as it is. Display names ("Gemini 2.5 Flash") find their ids. It shows what
would change, and changes all of it or nothing with --yes; a line that cannot be read stops it.`,
    arguments: ["FILE"],
    options: {
      yes: { help: "do it" },
      "quota-project": QUOTA_PROJECT,
      "add-models": { help: "add models that the gateway does not have; without it they are passed over" },
    },
    examples: [
      "limits import limits.csv",
      "limits import limits.csv --yes",
      "limits import tier-1.md --quota-project events-2 --yes",
      "limits import - --json < limits.tsv",
    ],
    async run(given, { connect, read }) {
      const quotaProject = given.option("quota-project");
      const addModels = given.switch("add-models");
      if (quotaProject !== undefined && addModels) {
        throw misuse(
          "--add-models adds models for every project; import them without --quota-project first.",
        );
      }
      const text = await read(given.arguments[0]!);
      const { reading } = connect();
      const now = await reading.limits();
      if (quotaProject !== undefined && !now.quota_projects.includes(quotaProject)) {
        throw new CliFailure(
          `No key has the quota project ${quotaProject}; there are ${
            now.quota_projects.join(", ") || "none"
          }.`,
        );
      }
      const plan = planImport(readLimitsTable(text), now, { quotaProject, addModels });
      const apply = given.switch("yes") && plan.problems.length === 0 && plan.changes.length > 0;
      if (apply) await reading.setLimits(changesOf(plan), { quotaProject, addModels });
      return {
        json: { applied: apply, quota_project: quotaProject ?? null, ...plan },
        text: planned(plan, apply),
        exitCode: plan.problems.length > 0 ? EXIT.failed : EXIT.done,
      };
    },
  },
];

const percent = (share: number) => `${Number((100 * share).toFixed(3))} %`;

const sharesInWords = (shares: Shares) =>
  `Interactive callers leave batch that waits ${percent(shares.batch_floor)}; batch leaves them ${
    percent(shares.interactive_reserve_day)
  } of the day${
    shares.interactive_reserve > 0 || shares.interactive_floor > 0
      ? `, and ${
        percent(shares.interactive_reserve)
      } of each minute, at least ${shares.interactive_floor} starts`
      : ""
  }.`;

const inWords = ({ rpm, tpm, rpd }: Limits) =>
  `${count(rpm)} requests and ${count(tpm)} input tokens a minute, ${count(rpd)} requests a day`
    .replaceAll("no limit requests", "any number of requests").replace(
      "no limit input tokens",
      "any number of input tokens",
    );

function described({ models, overrides }: LimitsNow): string {
  const headings = ["requests a minute>", "input tokens a minute>", "requests a day>"];
  const figures = ({ rpm, tpm, rpd }: Limits) => [count(rpm), count(tpm), count(rpd)];
  const all = table(
    ["model", ...headings, ""],
    models.map((row) => [
      row.model,
      ...figures(row),
      row.replaced_by !== null ? dim(`replaced by ${row.replaced_by}`) : row.is_active ? "" : yellow("off"),
    ]),
  );
  if (overrides.length === 0) return all;
  return `${all}\n\n${bold("Of quota projects' own, in place of the above")}\n${
    table(
      ["quota project", "model", ...headings, "notes"],
      overrides.map((row) => [row.quota_project, row.model, ...figures(row), row.notes ?? ""]),
    )
  }`;
}

function planned(plan: ImportPlan, applied: boolean): string {
  const difference = (before: number | null | undefined, after: number | null) =>
    before === after
      ? dim(count(after))
      : before === undefined
      ? green(count(after))
      : `${dim(count(before))} → ${bold(count(after))}`;
  const parts: string[] = [];
  if (plan.changes.length > 0) {
    parts.push(table(
      ["", "model", "requests a minute", "input tokens a minute", "requests a day"],
      plan.changes.map(({ model, before, after }) => [
        before === null ? green("new") : "",
        model,
        difference(before?.rpm, after.rpm),
        difference(before?.tpm, after.tpm),
        difference(before?.rpd, after.rpd),
      ]),
    ));
  }
  const notes: string[] = [];
  if (plan.unchanged.length > 0) notes.push(dim(`As they are: ${plan.unchanged.join(", ")}.`));
  if (plan.unknown.length > 0) {
    notes.push(
      yellow(
        `Not in the gateway, passed over: ${
          plan.unknown.map(({ name, line }) => `${name} (line ${line})`).join(", ")
        }.`,
      ),
    );
  }
  if (notes.length > 0) parts.push(notes.join("\n"));
  if (plan.problems.length > 0) {
    parts.push(
      `${
        plan.problems.map(({ line, message }) => red(`Line ${line}: ${message}.`)).join("\n")
      }\nNothing was changed.`,
    );
  } else if (plan.changes.length === 0) parts.push("There is nothing to change.");
  else if (applied) parts.push(green(`${counted(plan.changes.length, "model")} changed.`));
  else {parts.push(
      `Nothing was changed yet. Say it again with --yes to change ${counted(plan.changes.length, "model")}.`,
    );}
  return parts.join("\n\n");
}
