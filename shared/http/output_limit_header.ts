/** Says how long the answer could be at most, where the caller's budget allowed less than was asked for. */
export function outputLimitHeader(loweredTo: number | null | undefined): Record<string, string> {
  return loweredTo == null ? {} : { "x-eve-max-output-tokens": String(loweredTo) };
}
