/** The gateway's lines in `supabase/config.toml`: added at its end as one block, and taken out as that block, so that nothing else in it moves. */
import { parse } from "smol-toml";
import { InstallError } from "./error.ts";

const BEGIN = "# eve-gateway begin: the gateway's functions check their callers themselves";
const END = "# eve-gateway end";

/** The block for these functions, with the line breaks that stand before it. */
export function configBlock(config: string, functions: readonly string[]): string {
  const eol = config.includes("\r\n") ? "\r\n" : "\n";
  const lines = [
    BEGIN,
    ...functions.flatMap((name) => [
      `[functions.${name}]`,
      "verify_jwt = false",
      `entrypoint = "./functions/${name}/index.ts"`,
      `import_map = "./functions/${name}/deno.json"`,
      "",
    ]).slice(0, -1),
    END,
    "",
  ];
  const before = config === "" || config.endsWith("\n") ? eol : eol + eol;
  return before + lines.join(eol);
}

/** Throws InstallError if the file cannot be read, or has these functions in its own words. */
export function addBlock(config: string, functions: readonly string[]): { config: string; block: string } {
  const settings = parsed(config, "supabase/config.toml cannot be read");
  const own = settings.functions as Record<string, unknown> | undefined ?? {};
  const taken = functions.filter((name) => Object.hasOwn(own, name));
  if (taken.length > 0) {
    throw new InstallError(
      `supabase/config.toml has [functions.${
        taken[0]
      }] already: a function of yours is called so. Choose a prefix for the gateway's (--prefix eve-), and nothing of yours has to change.`,
    );
  }
  const block = configBlock(config, functions);
  parsed(config + block, "supabase/config.toml would not be valid with the gateway's functions in it");
  return { config: config + block, block };
}

/** Throws InstallError if the block is not there as it was added. */
export function removeBlock(config: string, block: string): string {
  const at = config.indexOf(block);
  if (at < 0) {
    throw new InstallError(
      `The gateway's block in supabase/config.toml (from "${BEGIN}" to "${END}") is not as it was added. Take the change back, or take the block out by hand together with "config" in eve.lock.json (set it to "").`,
    );
  }
  return config.slice(0, at) + config.slice(at + block.length);
}

/** Takes a block out that a command wrote and did not live to note. */
export function withoutStrayBlock(config: string): string {
  return config.replace(new RegExp(`(\\r?\\n){1,2}${BEGIN}[^]*?${END}\\r?\\n`), "");
}

function parsed(config: string, what: string): Record<string, unknown> {
  try {
    return parse(config);
  } catch (error) {
    throw new InstallError(`${what}: ${(error as Error).message.split("\n")[0]}`);
  }
}
