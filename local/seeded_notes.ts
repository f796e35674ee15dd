/** Notes of the rows for keys that the local stack makes, by which it knows them again. */

export const SEEDED_ON = "Made by the local stack.";
/** Marks a row that the stack itself switched off, so that it is the stack that switches it on again. */
export const SEEDED_OFF =
  "Made by the local stack, which switched it off: its secret is not in this run's environment.";
