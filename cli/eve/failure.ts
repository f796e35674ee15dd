/**
 * Exit codes. 0: it was done, and nothing is wrong. 1: it could not be done, or something wrong was found.
 * 2: the command line makes no sense. 3: the project could not be reached or did not let us in. 130: ended with Ctrl-C.
 */
export const EXIT = { done: 0, failed: 1, usage: 2, unreachable: 3, interrupted: 130 } as const;

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

export function unreachable(message: string): CliFailure {
  return new CliFailure(message, EXIT.unreachable);
}
