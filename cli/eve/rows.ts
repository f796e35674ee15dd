import { CliFailure } from "./failure.ts";

/** The rows of a query. @throws CliFailure with what the REST API said */
export function answered<T>(
  { data, error }: { data: T[] | null; error: { message: string; code?: string } | null },
): T[] {
  if (error === null && data !== null) return data;
  throw new CliFailure(
    `The project refused: ${error?.message ?? "no answer"}. Is it running, and the secret key current?`,
  );
}
