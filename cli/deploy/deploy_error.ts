/**
 * The deployment stops here, and the user can do something about it. The message says what is wrong, what has been
 * done to the project so far if anything, and what to do next; a stack trace would add nothing.
 */
export class DeployError extends Error {
  override name = "DeployError";
}
