import { isAbsolute, resolve } from "node:path";
import { applyMigrations } from "../../../local/database.ts";
import { CHECKOUT } from "../../../local/paths.ts";
import { StartError } from "../../../local/start_error.ts";
import type { Command, CommandDependencies, Outcome } from "../command.ts";
import { databaseUrl, placeOf, withDatabase } from "../db/address.ts";
import { inWords, refusal, rehearse, undo, type Undone } from "../db/downgrade.ts";
import {
  currentOf,
  type History,
  type Migration,
  migrationNamed,
  readHistory,
  refuseChanged,
  refuseForeign,
  waysDown,
} from "../db/history.ts";
import { restoreRows, rowsFilesIn } from "../db/restore.ts";
import { readWayDown } from "../db/way_down.ts";
import { CliFailure, misuse } from "../failure.ts";
import { counted, dim, green, table, yellow } from "../table.ts";

/** Where rows go that a way down takes with it, in the folder where the command was typed. */
const DROPPED_ROWS = "eve_dropped_rows";

export const databaseCommands: Command[] = [
  {
    name: "db init",
    summary: "apply all migrations to a database that has none, or the rest of them to one that has some",
    about: "The same as db upgrade; a second time it changes nothing.",
    arguments: [],
    options: {},
    examples: ["db init"],
    run: (_given, around) => upgrade(around),
  },
  {
    name: "db current",
    summary: "how far the database is",
    arguments: [],
    options: {},
    examples: ["db current", "db current --json"],
    async run(_given, around) {
      const url = databaseUrl(around);
      const history = await withDatabase(url, (sql) => readHistory(sql, CHECKOUT));
      const json = stateOf(url, history);
      const lines = [
        `${json.database}: ${json.current === null ? "no migrations yet" : fileOf(json.current)}`,
        json.pending.length === 0
          ? green("Every migration of this checkout is applied.")
          : yellow(`${counted(json.pending.length, "migration")} to apply: npm run eve -- db upgrade`),
        ...json.unknown.length === 0
          ? []
          : [yellow(`Not of this checkout: ${json.unknown.map(fileOf).join(", ")}`)],
      ];
      return { json, text: lines.join("\n") };
    },
  },
  {
    name: "db history",
    summary: "every migration, and whether the database has had it",
    arguments: [],
    options: {},
    examples: ["db history"],
    async run(_given, around) {
      const { migrations, unknown } = await withDatabase(
        databaseUrl(around),
        (sql) => readHistory(sql, CHECKOUT),
      );
      const all = [
        ...migrations.map((one) => ({ ...one, known: true })),
        ...unknown.map((one) => ({ ...one, applied: true, known: false })),
      ].sort((a, b) => a.version < b.version ? -1 : 1);
      return {
        json: all,
        text: table(
          ["version", "name", "applied"],
          all.map(({ version, name, applied, known }) => [
            version,
            name,
            applied ? known ? green("yes") : yellow("yes, and not of this checkout") : dim("no"),
          ]),
        ),
      };
    },
  },
  {
    name: "db upgrade",
    summary: "apply the migrations that the database has not had, all or up to TO",
    about: "TO is a version as db history shows it, and is applied too. Each is applied whole or not at all.",
    arguments: ["TO?"],
    options: {},
    examples: ["db upgrade", "db upgrade 20261123000900"],
    run: (given, around) => upgrade(around, given.arguments[0]),
  },
  {
    name: "db downgrade",
    summary: "undo migrations of media, jobs, events, batches and chats",
    about:
      "TO is -1 for the newest (-2 for two), a version that is to be the newest then, or base: the gateway without these\n" +
      "parts, which has no way down itself. Deploy functions of that state first. Where rows would be lost it refuses;\n" +
      "with --drop-data it writes them to files before. Each migration is undone whole or not at all.",
    arguments: ["TO"],
    options: {
      "drop-data": { help: "let rows go, after writing them to a file" },
      "data-folder": { value: "FOLDER", help: `where to; ./${DROPPED_ROWS} by default` },
      "dry-run": { help: "try it, say what would go, and change nothing" },
    },
    examples: [
      "db downgrade -1",
      "db downgrade base --dry-run",
      "db downgrade 20261124002900 --drop-data",
    ],
    run: (given, around) =>
      downgrade(around, given.arguments[0]!, {
        drops: given.switch("drop-data"),
        isDry: given.switch("dry-run"),
        folder: given.option("data-folder"),
      }),
  },
  {
    name: "db restore",
    summary: "put rows back that db downgrade --drop-data wrote down",
    about:
      `FOLDER is where they were written to, ./${DROPPED_ROWS} by default: the newest downgrade's are taken; or the folder of\n` +
      "one migration in it. Run db upgrade first. All of them come back or none; a row that is there again is replaced.",
    arguments: ["FOLDER?"],
    options: {},
    examples: ["db restore", "db restore eve_dropped_rows/20261123T000000Z_20261125000100_chats_tables"],
    run: (given, around) => restore(around, given.arguments[0]),
  },
];

const fileOf = ({ version, name }: Migration) => `${version}_${name}`;

function stateOf(url: string, history: History) {
  return {
    database: placeOf(url),
    current: currentOf(history) ?? null,
    pending: history.migrations.filter(({ applied }) => !applied).map(({ version, name }) => ({
      version,
      name,
    })),
    unknown: history.unknown,
  };
}

async function upgrade(around: CommandDependencies, to?: string): Promise<Outcome> {
  const url = databaseUrl(around);
  return await withDatabase(url, async (sql) => {
    const before = await readHistory(sql, CHECKOUT);
    refuseForeign(before);
    await refuseChanged(sql, CHECKOUT, before);
    const last = to === undefined ? undefined : migrationNamed(before, to);
    const next = last && before.migrations.find(({ version }) => version > last.version);
    const done = before.migrations.filter((one) =>
      !one.applied && (last === undefined || one.version <= last.version)
    );
    try {
      if (done.length > 0) await applyMigrations(url, CHECKOUT, next?.version);
    } catch (error) {
      if (!(error instanceof StartError)) throw error;
      throw new CliFailure(`${error.message}\nThose before it are applied.`);
    }
    const applied = done.map(({ version, name }) => ({ version, name }));
    const state = stateOf(url, await readHistory(sql, CHECKOUT));
    return {
      json: { ...state, applied },
      text: applied.length === 0
        ? `Nothing to do: ${state.database} is at ${
          state.current === null ? "nothing" : fileOf(state.current)
        }.`
        : [
          ...applied.map((one) => `applied ${fileOf(one)}`),
          `${state.database} is at ${fileOf(state.current!)}.`,
        ].join("\n"),
    };
  });
}

interface Terms {
  drops: boolean;
  isDry: boolean;
  folder: string | undefined;
}

async function downgrade(
  around: CommandDependencies,
  to: string,
  { drops, isDry, folder }: Terms,
): Promise<Outcome> {
  if (folder !== undefined && !drops) {
    throw misuse("--data-folder says where rows are written to: add --drop-data.");
  }
  const url = databaseUrl(around);
  return await withDatabase(url, async (sql) => {
    const history = await readHistory(sql, CHECKOUT);
    refuseForeign(history);
    const steps = waysDown(history, to).map((one) => ({ ...one, way: readWayDown(CHECKOUT, one) }));
    // All of it is looked at before any of it is done: nobody wants to be stopped half-way.
    const expected = await rehearse(sql, steps);
    const undone: Undone[] = [];
    if (isDry) undone.push(...expected);
    else if (!drops && expected.some(({ lost }) => lost.length > 0)) throw refusal(expected);
    else {
      const at = new Date(around.now()).toISOString().replace(/[-:]|\.\d+/g, "");
      for (const step of steps) {
        const into = `${rowsFolder(around, folder)}/${at}_${fileOf(step)}`;
        undone.push(await undo(sql, step, drops ? into : undefined));
        around.progress(`undone: ${fileOf(step)}`);
      }
    }
    const state = stateOf(url, await readHistory(sql, CHECKOUT));
    return {
      json: { ...state, dry_run: isDry, undone },
      text: [
        ...undone.flatMap((one) => [
          `${isDry ? "would undo" : "undone"} ${fileOf(one)}`,
          ...one.lost.map((loss) =>
            `  ${inWords(loss)}${loss.file === undefined ? "" : `: written to ${loss.file}`}`
          ),
        ]),
        undone.length === 0
          ? `Nothing to do: ${state.database} is there already.`
          : `${state.database} is at ${state.current === null ? "nothing" : fileOf(state.current)}.`,
      ].join("\n"),
    };
  });
}

async function restore(around: CommandDependencies, folder?: string): Promise<Outcome> {
  const files = await rowsFilesIn(rowsFolder(around, folder));
  const url = databaseUrl(around);
  return await withDatabase(url, async (sql) => {
    refuseForeign(await readHistory(sql, CHECKOUT));
    const restored = await restoreRows(sql, files);
    return {
      json: { database: placeOf(url), restored },
      text: restored.map(({ table, rows, file }) => `${counted(rows, "row")} of ${table}, from ${file}`).join(
        "\n",
      ),
    };
  });
}

/** npm goes to the checkout's root before it runs a script; what is written belongs where the command was typed. */
function rowsFolder({ variable }: CommandDependencies, given = DROPPED_ROWS): string {
  return isAbsolute(given) ? given : resolve(variable("INIT_CWD") ?? Deno.cwd(), given);
}
