/** The console's files: built from `console/` when they have changed, and served beside the API. */
import { serveStatic } from "hono/deno";
import { Hono } from "hono";
import { CHECKOUT } from "./paths.ts";

export const CONSOLE_PATH = "/console";

const SOURCE = `${CHECKOUT}/console`;
const VITE = `${SOURCE}/node_modules/vite/bin/vite.js`;
const BUILT = `${SOURCE}/dist`;
/** What the files in `dist` were made from. */
const STAMP = ".sources";
/** Everything that the build reads, besides `src` and `public`. */
const SINGLE_FILES = ["index.html", "package-lock.json", "vite.config.ts", "tsconfig.json"];

/**
 * Builds the console unless that was done since its sources changed; answers its folder.
 * @throws Error saying what to do, when its packages are missing or the build fails
 */
export async function buildConsole(): Promise<string> {
  const sources = await fingerprint();
  if (await readText(`${BUILT}/${STAMP}`) === sources) return BUILT;
  if (await readText(VITE) === undefined) {
    throw new Error("its packages are not installed: run npm ci --prefix console.");
  }
  // Beside the old files until it is whole, so that a build that fails or is killed leaves them as they were.
  const fresh = await Deno.makeTempDir({ dir: SOURCE, prefix: "dist-" });
  try {
    const { success, stderr, stdout } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        "--no-prompt",
        VITE,
        "build",
        "--outDir",
        fresh,
        "--emptyOutDir",
        "--logLevel=error",
      ],
      cwd: SOURCE,
      // Whatever runs this, a test for instance: the pages are made for use, without React's aids for developers.
      env: { NODE_ENV: "production" },
      stdout: "piped",
      stderr: "piped",
    }).output();
    if (!success) throw new Error(`vite build failed:\n${text(stdout)}${text(stderr)}`);
    await Deno.writeTextFile(`${fresh}/${STAMP}`, sources);
    await Deno.remove(BUILT, { recursive: true }).catch(() => {});
    // Another stack of this checkout may have been quicker: its files are as good.
    await Deno.rename(fresh, BUILT).catch(() => {});
    return BUILT;
  } finally {
    await Deno.remove(fresh, { recursive: true }).catch(() => {});
  }
}

export interface ConsoleConfig {
  supabaseUrl: string;
  publishableKey: string;
}

/** Answers what is below {@link CONSOLE_PATH}. */
export function serveConsole(folder: string, config: ConsoleConfig): (request: Request) => Promise<Response> {
  const app = new Hono();
  app.use(async (context, next) => {
    await next();
    context.header("x-content-type-options", "nosniff");
    context.header("x-frame-options", "DENY");
    context.header("referrer-policy", "no-referrer");
    // The names of the other files change with their content.
    const lasts = context.req.path.startsWith(`${CONSOLE_PATH}/assets/`) && context.res.ok;
    context.header("cache-control", lasts ? "public, max-age=31536000, immutable" : "no-cache");
  });
  app.get(CONSOLE_PATH, (context) => context.redirect(`${CONSOLE_PATH}/`));
  app.get(
    `${CONSOLE_PATH}/config.json`,
    (context) => context.json({ supabase_url: config.supabaseUrl, publishable_key: config.publishableKey }),
  );
  app.get(
    `${CONSOLE_PATH}/*`,
    serveStatic({ root: folder, rewriteRequestPath: (path) => path.slice(CONSOLE_PATH.length) }),
  );
  return async (request) => await app.fetch(request);
}

/** The same for the same sources, whoever has checked them out and when. */
async function fingerprint(): Promise<string> {
  const paths = [...SINGLE_FILES];
  for (const folder of ["src", "public"]) await list(folder, paths);
  const parts: string[] = [];
  for (const path of paths.sort()) parts.push(path, await readText(`${SOURCE}/${path}`) ?? "");
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(parts.join("\0")));
  return new Uint8Array(digest).toHex();
}

async function list(folder: string, paths: string[]): Promise<void> {
  for await (const entry of Deno.readDir(`${SOURCE}/${folder}`)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) await list(path, paths);
    else paths.push(path);
  }
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch {
    return undefined;
  }
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
