/** What an imported table would change, before anything is changed. */
import type { LimitChange, LimitsNow } from "../database/reading.ts";
import { idFrom, knownModel } from "./model_name.ts";
import type { LimitName, Problem, ReadTable } from "./table.ts";

export type Limits = Record<LimitName, number | null>;

export interface PlannedChange {
  line: number;
  model: string;
  /** Null: the model is new here. */
  before: Limits | null;
  after: Limits;
}

export interface ImportPlan {
  changes: PlannedChange[];
  /** Models whose limits are what the table says. */
  unchanged: string[];
  /** Models that the gateway does not have, by the names of the table, and the id that they would get. */
  unknown: { line: number; name: string; id: string }[];
  problems: Problem[];
}

export interface ImportOptions {
  /** The quota project whose own limits these are; undefined: the models' rows. */
  quotaProject?: string;
  /** Whether models that the gateway does not have are added. */
  addModels: boolean;
}

const NAMES = ["rpm", "tpm", "rpd"] as const;

/** Compares a table with the limits that hold. */
export function planImport(table: ReadTable, now: LimitsNow, options: ImportOptions): ImportPlan {
  const plan: ImportPlan = { changes: [], unchanged: [], unknown: [], problems: [...table.problems] };
  const known = now.models.map(({ model }) => model);
  const seen = new Map<string, { line: number; said: string }>();
  for (const row of table.rows) {
    const match = knownModel(row.name, known);
    const model = match ?? idFrom(row.name);
    if (match === null && !options.addModels) {
      plan.unknown.push({ line: row.line, name: row.name, id: model });
      continue;
    }
    if (!/^[a-z0-9][a-z0-9._/-]{0,127}$/.test(model)) {
      plan.problems.push({ line: row.line, message: `"${row.name}" is not a model's name; give its id` });
      continue;
    }
    const said = JSON.stringify(row.limits);
    const before = seen.get(model);
    if (before !== undefined) {
      // The same table twice does no harm; two tiers in one file would.
      if (before.said !== said) {
        plan.problems.push({
          line: row.line,
          message: `${model} has other limits on line ${before.line}: import one tier's table at a time`,
        });
      }
      continue;
    }
    seen.set(model, { line: row.line, said });
    if (NAMES.every((name) => row.limits[name] === undefined)) {
      if (match !== null) plan.unchanged.push(model);
      continue;
    }
    const current = match === null ? null : limitsOf(model, now, options.quotaProject);
    const after = { ...(current ?? { rpm: null, tpm: null, rpd: null }), ...row.limits };
    if (current !== null && NAMES.every((name) => current[name] === after[name])) plan.unchanged.push(model);
    else plan.changes.push({ line: row.line, model, before: current, after });
  }
  plan.problems.sort((a, b) => a.line - b.line);
  return plan;
}

/** All or none, as one call takes them. */
export function changesOf(plan: ImportPlan): LimitChange[] {
  return plan.changes.map(({ model, after }) => ({ model, ...after }));
}

/** The limits that hold: the quota project's own where it has any. */
function limitsOf(model: string, now: LimitsNow, quotaProject?: string): Limits {
  const own = now.overrides.find((one) => one.quota_project === quotaProject && one.model === model);
  const { rpm, tpm, rpd } = own ?? now.models.find((one) => one.model === model)!;
  return { rpm, tpm, rpd };
}
