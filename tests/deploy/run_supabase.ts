/** Runs the Supabase CLI of this checkout on another folder, in an environment of the test's choice. */
import { CHECKOUT } from "../../local/paths.ts";

export interface Finished {
  success: boolean;
  /** Both outputs, one after the other. */
  printed: string;
}

export async function runSupabase(
  workdir: string,
  args: string[],
  env: Record<string, string>,
): Promise<Finished> {
  const { success, stdout, stderr } = await new Deno.Command(`${CHECKOUT}/node_modules/.bin/supabase`, {
    args: [...args, `--workdir=${workdir}`],
    env,
    stdin: "null",
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { success, printed: `${out}\n${err}`.trim() };
}
