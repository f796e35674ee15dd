/** The console's files: built from `console/` when they have changed, and served beside the API. */
import { serveStatic } from "hono/deno";
import { Hono } from "hono";
import { compress } from "hono/compress";
import { installIfNeeded, lowerPriority, oneAtATime } from "./packages.mjs";
import { CHECKOUT } from "./paths.ts";
import { sha256Of } from "../shared/runtime/sha256.ts";

export const CONSOLE_PATH = "/console";

const SOURCE = `${CHECKOUT}/console`;
const VITE = `${SOURCE}/node_modules/vite/bin/vite.js`;
const BUILT = `${SOURCE}/dist`;
/** Where they are made. */
const UNFINISHED = `${SOURCE}/dist.unfinished`;
/** Held by the one who makes them. */
const IN_WORK = `${SOURCE}/.building`;
/** What the files in `dist` were made from. */
const STAMP = ".sources";
/** How soon a page that waits for the console asks again. */
const ASK_AGAIN_S = 2;
/** Everything that the build reads, besides `src` and `public`. */
const SINGLE_FILES = ["index.html", "package-lock.json", "vite.config.ts", "tsconfig.json"];

/** The console's folder, if it was built since its sources changed. */
export async function builtConsole(): Promise<string | undefined> {
  return await readText(`${BUILT}/${STAMP}`) === await fingerprint() ? BUILT : undefined;
}

/**
 * Builds the console unless that was done since its sources changed, with low priority; answers its folder. Installs its
 * packages first if they are missing. `signal` ends all that.
 * @throws Error saying what is wrong, when its packages cannot be installed or the build fails
 */
export async function buildConsole(signal?: AbortSignal): Promise<string> {
  const ready = await builtConsole();
  if (ready !== undefined) return ready;
  await installIfNeeded({ folder: SOURCE, background: true, signal: signal ?? new AbortController().signal });
  const lock = await oneAtATime(IN_WORK, signal);
  try {
    // Another stack of this checkout may have been quicker.
    return await builtConsole() ?? await build(signal, lock.note);
  } finally {
    lock.release();
  }
}

async function build(signal: AbortSignal | undefined, note: (pid: number) => unknown): Promise<string> {
  const sources = await fingerprint();
  // Beside the old files until it is whole, so that a build that fails or is killed leaves them as they were.
  await Deno.remove(UNFINISHED, { recursive: true }).catch(() => {});
  try {
    const vite = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        "--no-prompt",
        VITE,
        "build",
        "--outDir",
        UNFINISHED,
        "--emptyOutDir",
        "--logLevel=error",
      ],
      cwd: SOURCE,
      // Whatever runs this, a test for instance: the pages are made for use, without React's aids for developers.
      env: { NODE_ENV: "production" },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      signal,
    }).spawn();
    lowerPriority(vite.pid);
    note(vite.pid);
    const { success, stderr, stdout } = await vite.output();
    signal?.throwIfAborted();
    if (!success) throw new Error(`vite build failed:\n${text(stdout)}${text(stderr)}`);
    await Deno.writeTextFile(`${UNFINISHED}/${STAMP}`, sources);
    await Deno.remove(BUILT, { recursive: true }).catch(() => {});
    await Deno.rename(UNFINISHED, BUILT);
    return BUILT;
  } finally {
    await Deno.remove(UNFINISHED, { recursive: true }).catch(() => {});
  }
}

export interface ConsoleConfig {
  supabaseUrl: string;
  publishableKey: string;
}

/** The console of a stack, which serves before it is there. */
export interface ConsoleSite {
  /** Whether it is there. */
  built(): boolean;
  /** Builds it, if need be; resolves with what went wrong, or with nothing. */
  build(): Promise<string | undefined>;
  /** Answers what is below {@link CONSOLE_PATH}: until it is there with a page that says so. */
  fetch(request: Request): Promise<Response>;
}

/** Serves the console if it is built; if not, {@link ConsoleSite.build} does that. */
export async function consoleSite(config: ConsoleConfig, signal: AbortSignal): Promise<ConsoleSite> {
  const folder = await builtConsole().catch(() => undefined);
  let serve = folder === undefined ? undefined : serveConsole(folder, config);
  let problem: string | undefined;
  return {
    built: () => serve !== undefined,
    async build() {
      try {
        serve ??= serveConsole(await buildConsole(signal), config);
      } catch (error) {
        problem = error instanceof Error ? error.message : String(error);
      }
      return problem;
    },
    fetch: (request) => serve ? serve(request) : Promise.resolve(waitingPage(problem)),
  };
}

function waitingPage(problem: string | undefined): Response {
  const words = problem === undefined
    ? "The console is being built. This page shows it as soon as it is there, within a minute or two."
    : `There is no console: ${problem}`;
  const escaped = words.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const again = problem === undefined ? `<meta http-equiv="refresh" content="${ASK_AGAIN_S}">` : "";
  return new Response(
    `<!doctype html><html lang="en"><meta charset="utf-8">${again}<title>EVE Gateway</title><pre>${escaped}</pre></html>\n`,
    {
      status: 503,
      headers: {
        "content-type": "text/html; charset=utf-8",
        "cache-control": "no-store",
        "retry-after": String(ASK_AGAIN_S),
      },
    },
  );
}

/** Answers what is below {@link CONSOLE_PATH}. */
export function serveConsole(folder: string, config: ConsoleConfig): (request: Request) => Promise<Response> {
  const app = new Hono();
  app.use(compress());
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

/** The same for the same sources, wherever and whenever they were checked out. */
async function fingerprint(): Promise<string> {
  const paths = [...SINGLE_FILES];
  for (const folder of ["src", "public"]) await list(folder, paths);
  const parts: string[] = [];
  for (const path of paths.sort()) parts.push(path, await readText(`${SOURCE}/${path}`) ?? "");
  return await sha256Of(parts.join("\0"));
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
