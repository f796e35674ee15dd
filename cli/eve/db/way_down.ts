/** A migration's way down, as supabase/downgrades has it: SQL, with what it says of rows in its comments. */
import { CliFailure } from "../failure.ts";
import { downgradesFolder, type Migration } from "./history.ts";

export interface WayDown {
  sql: string;
  /** `-- rows: TABLE where CONDITION`: rows that it deletes from a table that stays. */
  rows: { table: string; where: string }[];
  /** `-- seed: TABLE {...}`: a row that the migration brought. As long as it has these values it is nobody's. */
  seeds: { table: string; values: string }[];
}

export function readWayDown(root: string, { version, name }: Migration): WayDown {
  const file = `${version}_${name}.sql`;
  let text: string;
  try {
    text = Deno.readTextFileSync(`${downgradesFolder(root)}/${file}`);
  } catch {
    throw new CliFailure(
      `${file} has no way down: supabase/downgrades/${file} is not there. Nothing was changed.`,
    );
  }
  return parseWayDown(text);
}

export function parseWayDown(text: string): WayDown {
  return {
    sql: text,
    rows: [...text.matchAll(/^-- rows: ([\w.]+) where (.+)$/gm)].map(([, table, where]) => ({
      table: table!,
      where: where!,
    })),
    seeds: [...text.matchAll(/^-- seed: ([\w.]+) (\{.*\})$/gm)].map(([, table, values]) => ({
      table: table!,
      values: values!,
    })),
  };
}
