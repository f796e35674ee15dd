import { STAGE_PREFIX } from "./target.ts";

/** Of secrets of the pool's keys that were entered in the console: it and an id, which is another one for every secret. */
const STORED_PREFIX = "stored:";

/** Where a key's secret is: what its row's `env_var_name` says, read once, where the row comes in. */
export interface SecretSource {
  /**
   * environment: an Edge secret of that name; stored: the database, entered for the pool (`stored:ID`); stage: the database,
   * with a stage (`stage:POEM`).
   */
  kind: "environment" | "stored" | "stage";
  /** As the row has it. */
  name: string;
}

export function secretSourceOf(envVarName: string): SecretSource {
  const kind = envVarName.startsWith(STORED_PREFIX)
    ? "stored"
    : envVarName.startsWith(STAGE_PREFIX)
    ? "stage"
    : "environment";
  return { kind, name: envVarName };
}
