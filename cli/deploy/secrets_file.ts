/**
 * The file of secrets. The Supabase CLI reads it itself (so that no value passes through a command line), and it is
 * lenient: a line it does not understand is skipped, a value is cut at `#`, a name that Supabase reserves is dropped,
 * all of that without an error. A key that is silently half set costs an evening, so only what can be read in one
 * way is accepted here.
 */
import { DeployError } from "./deploy_error.ts";

const LINE = /^([^=]*)=(.*)$/;
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
/** Set by Supabase for every function; the CLI skips such names. */
const RESERVED = "SUPABASE_";
const HOW_TO_QUOTE = "put the value in 'single quotes'";

/**
 * The secrets in the text, name to value. `file` is named in the errors; values never are.
 * Accepted are blank lines, lines that begin with `#`, NAME=value, NAME='value' and NAME="value".
 */
export function parseSecretsFile(text: string, file: string): Map<string, string> {
  const secrets = new Map<string, string>();
  for (const [index, raw] of text.split(/\r?\n/).entries()) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) continue;
    const refuse = (problem: string): never => {
      throw new DeployError(`${file}, line ${index + 1}: ${problem}. Nothing was changed.`);
    };
    const [, left, right] = line.match(LINE) ?? refuse("this is not NAME=value");
    const name = left!.trimEnd();
    if (!NAME.test(name)) {
      refuse("the part before = is not a name (letters, digits and _, and no digit first)");
    }
    if (name.startsWith(RESERVED)) {
      refuse(`${name} begins with ${RESERVED}, which Supabase keeps for itself; take another name`);
    }
    if (secrets.has(name)) refuse(`${name} is there twice`);
    secrets.set(name, parseValue(right!.trim(), (problem) => refuse(`${name} ${problem}`)));
  }
  return secrets;
}

function parseValue(written: string, refuse: (problem: string) => never): string {
  const quote = written[0];
  let value = written;
  if (quote === "'" || quote === '"') {
    if (written.length < 2 || !written.endsWith(quote)) {
      refuse("has a quote that is not closed on the same line, at its end");
    }
    value = written.slice(1, -1);
    if (value.includes(quote)) refuse("has a quote of the same kind inside its quotes; use the other kind");
    if (quote === '"' && value.includes("\\")) {
      refuse(`has a backslash between double quotes; ${HOW_TO_QUOTE}`);
    }
    if (value.endsWith("\\")) refuse("ends with a backslash; leave the quotes away");
  } else {
    const odd = written.match(/[#'"`]/)?.[0];
    if (odd) refuse(`has ${odd} in it, which is not safe without quotes; ${HOW_TO_QUOTE}`);
  }
  if (value.trim() === "") refuse("has no value; fill it in or remove the line");
  return value;
}
