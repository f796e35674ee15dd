import type postgres from "postgres";

// deno-lint-ignore no-explicit-any -- the answers are JSON whose fields the tests look at.
export type Answer = any;

export async function begin(sql: postgres.Sql, operation: string, timeLimitMs?: number): Promise<Answer> {
  const [row] = await sql`
    select public.eve_maintenance_begin(${operation}, ${timeLimitMs ?? null}, 'test') as answer`;
  return row!.answer;
}

export async function step(sql: postgres.Sql, runId: number): Promise<Answer> {
  const [row] = await sql`select public.eve_maintenance_step(${runId}) as answer`;
  return row!.answer;
}

/** Begins a run and steps until it is done; every step's answer, the last one first. */
export async function runToEnd(
  sql: postgres.Sql,
  operation: string,
  timeLimitMs?: number,
): Promise<Answer[]> {
  const begun = await begin(sql, operation, timeLimitMs);
  if (begun.status !== "running") throw new Error(JSON.stringify(begun));
  const steps: Answer[] = [];
  do steps.unshift(await step(sql, begun.run_id)); while (!steps[0].done);
  return steps;
}

/** The newest row of the log about an operation. */
export async function lastLogged(sql: postgres.Sql, operation: string): Promise<Answer> {
  const [row] = await sql`
    select * from public.google_ai_maintenance_log where operation = ${operation} order by id desc limit 1`;
  return row;
}
