import type { Connection } from "./connection.ts";

export interface Option {
  /** What stands for its value in the help; without it the option is a switch. */
  value?: string;
  help: string;
}

/** What was given to a command, its form already checked. */
export interface Given {
  arguments: string[];
  /** The value of an option; undefined if it is absent. */
  option(name: string): string | undefined;
  switch(name: string): boolean;
}

/** What a command has to say: to programs with `--json`, to people otherwise. */
export interface Outcome {
  json: unknown;
  text: string;
  /** 0 unless something is wrong with what was found. */
  exitCode?: number;
}

export interface Command {
  /** Two words: what it is about, and what is done. */
  name: string;
  /** One line for the list. */
  summary: string;
  /** Names of the arguments; a `?` at the end says that it may be left out, `...` that there may be more. */
  arguments: readonly string[];
  options: Readonly<Record<string, Option>>;
  /** Without `npm run eve --`. */
  examples: readonly string[];
  run(given: Given, connect: () => Connection): Promise<Outcome>;
}
