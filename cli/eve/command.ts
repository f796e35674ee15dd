import type { RunCli } from "../deploy/supabase_cli.ts";
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

/** What a command may use of the place where it was started. */
export interface CommandDependencies {
  /** The project, by its profile, by the environment, or the local stack. */
  connect(): Connection;
  /** A line of the answer, now; for commands that do not end by themselves. */
  say(text: string): void;
  /** A piece of the answer without a line's end, now. */
  write(text: string): void;
  /** Where a long work stands, for a person at a terminal: it replaces what it said before and vanishes at the end. */
  progress(text: string): void;
  /** Everything on the standard input, or in a file. */
  read(file: string): Promise<string>;
  /** A secret that a person types, unseen, at this question, or that is piped in. */
  secret(question: string): Promise<string>;
  /** The Supabase CLI of this checkout; `hidden` is blotted out of what it prints. */
  supabase(hidden: Iterable<string>): RunCli;
  variable(name: string): string | undefined;
  /** Whether the answer is for a program. */
  json: boolean;
  /** Aborts at Ctrl-C. */
  signal: AbortSignal;
  /** Columns of the terminal. */
  width: number;
  /** Milliseconds since the epoch. */
  now(): number;
  sleep(ms: number): Promise<void>;
}

export interface Command {
  /** One or two words: what it is about, and what is done. */
  name: string;
  /** One line for the list. */
  summary: string;
  /** More, for its own help. */
  about?: string;
  /** Names of the arguments; a `?` at the end says that it may be left out, `...` that there may be more. */
  arguments: readonly string[];
  options: Readonly<Record<string, Option>>;
  /** Without `npm run eve --`. */
  examples: readonly string[];
  /** What it has to say at the end; nothing when it has said everything by itself. */
  run(given: Given, around: CommandDependencies): Promise<Outcome | undefined>;
}
