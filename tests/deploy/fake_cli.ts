/** Answers in the Supabase CLI's place, in its formats, for tests of what is done with the answers. */
import type { Finished, RunCli } from "../../cli/deploy/supabase_cli.ts";

export interface FakeProject {
  secrets?: string[];
  functions?: Record<string, number>;
  migrations?: { local: string; remote: string }[];
  /** Undefined: the table is not there. */
  keys?: { key_alias: string; env_var_name: string }[];
  /** Sums of the migrations' texts; undefined: it has had none. */
  sums?: { version: string; sum: string | null }[];
  /** First two words of a command, to the failure it meets: an error as the CLI prints it, or any text. */
  failures?: Record<string, { code: string; message: string; suggestion?: string } | string>;
}

export interface FakeCli {
  run: RunCli;
  /** Every command that ran, as its arguments. */
  calls: string[][];
  /** The commands that change something. */
  changes(): string[][];
}

const CHANGES = ["db push", "secrets set", "functions deploy"];

export function fakeCli(project: FakeProject = {}): FakeCli {
  const calls: string[][] = [];
  const target = {
    kind: "linked",
    project_ref: "abcdefghijklmnopqrst",
    project_name: "my gateway",
    environment: "production",
  };
  const ok = (answer: unknown): Finished => ({ success: true, stdout: JSON.stringify(answer), stderr: "" });
  const failed = (error: unknown): Finished => ({
    success: false,
    stdout: typeof error === "string" ? error : JSON.stringify({ _tag: "Error", error }),
    stderr: "",
  });
  const answer = (command: string, args: string[]): Finished => {
    const failure = project.failures?.[command];
    if (failure !== undefined) return failed(failure);
    switch (command) {
      case "secrets list":
        return ok({ secrets: (project.secrets ?? []).map((name) => ({ name, value: "digest" })), target });
      case "functions list":
        return ok({
          functions: Object.entries(project.functions ?? {}).map(([slug, version]) => ({ slug, version })),
          target,
        });
      case "migration list":
        return ok({ migrations: project.migrations ?? [], message: "Migrations listed", target });
      case "db query":
        if (args.some((arg) => arg.includes("schema_migrations"))) {
          return project.sums === undefined
            ? failed({
              code: "DbQueryExecError",
              message: 'error: relation "supabase_migrations.schema_migrations" does not exist',
            })
            : ok(project.sums);
        }
        return project.keys === undefined
          ? failed({
            code: "DbQueryExecError",
            message: 'error: relation "public.google_ai_api_keys" does not exist',
          })
          : ok(project.keys);
      default:
        return ok({});
    }
  };
  const words = (args: string[]) => args.slice(0, 2).join(" ");
  return {
    calls,
    changes: () => calls.filter((args) => CHANGES.includes(words(args))),
    run: (args, options) => {
      calls.push(args);
      const finished = answer(words(args), args);
      finished.stdout.split("\n").forEach((line) => options?.onLine?.(line));
      return Promise.resolve(finished);
    },
  };
}
