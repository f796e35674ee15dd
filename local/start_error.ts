/**
 * Something about this machine keeps the local stack from starting, and the user can do something about it.
 * The message is one line that says what is wrong and what to do; no stack trace is worth showing beside it.
 */
export class StartError extends Error {
  override name = "StartError";
}

/** The refusal for a disk without room for the stack's data. */
export function diskFull(folder: string): StartError {
  return new StartError(
    `No disk space left for ${folder}: free some, or set EVE_DATA_DIR to a folder on another disk.`,
  );
}

/** The refusal to show for a failed file operation below `folder`, or undefined if the error is of another kind. */
export function startErrorForFolder(error: unknown, folder: string): StartError | undefined {
  if (error instanceof StartError) return error;
  const text = error instanceof Error ? error.message : String(error);
  if (/ENOSPC|No space left on device|disk quota exceeded/i.test(text)) {
    return diskFull(folder);
  }
  if (error instanceof Deno.errors.PermissionDenied || /EACCES|EROFS|Read-only file system/i.test(text)) {
    return new StartError(
      `Cannot write to ${folder}: make it writable for this user, or set EVE_DATA_DIR to a folder that is.`,
    );
  }
  if (error instanceof Deno.errors.NotADirectory || error instanceof Deno.errors.AlreadyExists) {
    return new StartError(
      `${folder} is not a folder: remove that file, or set EVE_DATA_DIR to another place.`,
    );
  }
  return undefined;
}
