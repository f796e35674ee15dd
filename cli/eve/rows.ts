import { CliFailure, unreachable } from "./failure.ts";

/** The rows of a query. @throws CliFailure with what the REST API said */
export function answered<T>(
  { data, error }: { data: T[] | null; error: { message: string; code?: string } | null },
): T[] {
  if (error === null && data !== null) return data;
  const said = error?.message ?? "no answer";
  // Without a code nobody answered; with one of these the key was not let in.
  if (!error?.code || /^(PGRST3|42501)/.test(error.code)) {
    throw unreachable(`The project did not answer or refused the key: ${said}. \`doctor\` says what to do.`);
  }
  throw new CliFailure(`The project refused: ${said}`);
}
