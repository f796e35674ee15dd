/** Whether this machine has a program, for tests that are left out where it is missing. */
export function hasProgram(name: string, args: string[] = ["--version"]): boolean {
  try {
    return new Deno.Command(name, { args, stdout: "null", stderr: "null" }).outputSync().success;
  } catch {
    // It is not there, or may not be run. Deno throws at once here, before there is a promise that could reject.
    return false;
  }
}
