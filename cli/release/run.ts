/**
 * Runs programs in a folder. What one prints is given back, or shown as it comes (`show`); what it complains of is shown unless `quiet`.
 * @throws Error when it ends with another code than 0
 */
export function runIn(folder: string) {
  return async (
    command: string,
    args: string[],
    { cwd = folder, show = false, quiet = false }: { cwd?: string; show?: boolean; quiet?: boolean } = {},
  ): Promise<string> => {
    const ended = await new Deno.Command(command, {
      args,
      cwd,
      stdout: show ? "inherit" : "piped",
      stderr: quiet ? "null" : "inherit",
    }).output();
    if (!ended.success) throw new Error(`${command} ${args.join(" ")} failed.`);
    // What was shown is not there to be read.
    return show ? "" : new TextDecoder().decode(ended.stdout).trim();
  };
}
