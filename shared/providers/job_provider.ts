import { callersFault } from "./diagnoses.ts";
import { type JobProvider, type Provider, ProviderFailure } from "./provider.ts";

/** A provider that makes nothing but jobs. */
export function jobsAlone(jobs: JobProvider, name: string): Provider {
  const refuse = () =>
    Promise.reject(
      new ProviderFailure(
        callersFault("unsupported_feature"),
        `${name} makes no text: ask for its stage`,
        null,
      ),
    );
  return {
    generate: refuse,
    // deno-lint-ignore require-yield -- it never gets so far.
    async *stream() {
      return await refuse();
    },
    embed: refuse,
    jobs,
  };
}

/** Of options, those that the provider knows, by their own names. */
export function known(
  options: Readonly<Record<string, unknown>>,
  names: readonly string[],
): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(options).filter(([name, value]) =>
      names.includes(name) && value !== undefined && value !== null
    ),
  );
}
