/** What the user can put right: its message says what is wrong and what to do. Nothing was changed when it is thrown. */
export class InstallError extends Error {
  override name = "InstallError";
}
