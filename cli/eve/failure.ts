/** What the shell is told: 0 it was done, 1 it could not be done, 2 the command line makes no sense. */
export const EXIT = { done: 0, failed: 1, usage: 2 } as const;

/** Ends a command with a message for the user, which says what to do. */
export class CliFailure extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode: number = EXIT.failed) {
    super(message);
    this.name = "CliFailure";
    this.exitCode = exitCode;
  }
}

export function misuse(message: string): CliFailure {
  return new CliFailure(message, EXIT.usage);
}
