/** Tesseract on this machine: found at run time, and spawned within bounds. No shell is between, and no file is written. */
import {
  OCR_LANGUAGES,
  TesseractFailure,
  type TesseractProgram,
} from "../shared/vision/analysts/tesseract.ts";

/** A dense page of A4 at 300 dpi takes 10 s on one slow core; a picture that takes longer has no text worth it. */
export const READ_TIMEOUT_MS = 60_000;
/** A page of 6,000 characters is 60 kB of TSV. */
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;
/** Of what it says on its standard error. */
const MAX_MESSAGE_BYTES = 4 * 1024;
/** Asking for its version. */
const PROBE_TIMEOUT_MS = 10_000;

/** It needs no more of the environment. One thread: several jobs run side by side, and its threads slow each other down. */
function environment(): Record<string, string> {
  const env: Record<string, string> = { OMP_THREAD_LIMIT: "1", LC_ALL: "C.UTF-8" };
  for (const name of ["PATH", "TESSDATA_PREFIX", "SystemRoot"]) {
    const value = Deno.env.get(name);
    if (value !== undefined) env[name] = value;
  }
  return env;
}

export interface TesseractOptions {
  /** Absent: the one in PATH. */
  program?: string;
  timeoutMs?: number;
  maxOutputBytes?: number;
}

/** The program, if it is here with Russian and English; null: it is not. */
export async function findTesseract(options: TesseractOptions = {}): Promise<TesseractProgram | null> {
  const { program = "tesseract", timeoutMs = READ_TIMEOUT_MS, maxOutputBytes = MAX_OUTPUT_BYTES } = options;
  const ask = async (argument: string) => {
    const signal = AbortSignal.timeout(PROBE_TIMEOUT_MS);
    return await run(program, [argument], new Uint8Array(), { signal, maxOutputBytes }).catch(() => null);
  };
  // Older ones say their version on the standard error.
  const version = /tesseract v?(\d[\w.-]*)/.exec(await ask("--version") ?? "")?.[1];
  if (version === undefined) return null;
  const languages = new Set((await ask("--list-langs") ?? "").split("\n").map((line) => line.trim()));
  if (!OCR_LANGUAGES.every((language) => languages.has(language))) return null;
  const args = ["stdin", "stdout", "-l", OCR_LANGUAGES.join("+"), "--oem", "1", "--psm", "3", "tsv"];
  return {
    version: `tesseract ${version}`,
    async read(picture, signal) {
      const timeout = AbortSignal.timeout(timeoutMs);
      try {
        return await run(program, args, picture, {
          signal: AbortSignal.any([signal, timeout]),
          maxOutputBytes,
        });
      } catch (thrown) {
        signal.throwIfAborted();
        if (timeout.aborted) throw new TesseractFailure("late", `tesseract took more than ${timeoutMs} ms`);
        throw thrown instanceof TesseractFailure
          ? thrown
          : new TesseractFailure("unreadable", thrown instanceof Error ? thrown.message : String(thrown));
      }
    },
  };
}

/** What a program prints, to an end or to nothing: when it is left it is killed, and waited for. */
async function run(
  program: string,
  args: string[],
  input: Uint8Array<ArrayBuffer>,
  { signal, maxOutputBytes }: { signal: AbortSignal; maxOutputBytes: number },
): Promise<string> {
  signal.throwIfAborted();
  const child = new Deno.Command(program, {
    args,
    clearEnv: true,
    env: environment(),
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const end = Promise.withResolvers<never>();
  end.promise.catch(() => {});
  const kill = () => {
    try {
      child.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
  };
  const leave = () => {
    kill();
    end.reject(signal.reason);
  };
  signal.addEventListener("abort", leave, { once: true });
  // One that ends before it has read everything has its reasons: they are in its status.
  const written = new Blob([input]).stream().pipeTo(child.stdin).catch(() => {});
  const output = bounded(child.stdout, maxOutputBytes, true);
  const message = bounded(child.stderr, MAX_MESSAGE_BYTES, false);
  try {
    const whole = Promise.all([output, message, child.status]);
    const [text, said, { code }] = await Promise.race([whole, end.promise]);
    if (code !== 0) {
      throw new TesseractFailure("unreadable", lastLine(said) || `tesseract ended with ${code}`);
    }
    return text;
  } finally {
    signal.removeEventListener("abort", leave);
    kill();
    await Promise.allSettled([written, output, message, child.status]);
  }
}

/** @param fails whether more is a failure; else it is passed over */
async function bounded(
  stream: ReadableStream<Uint8Array>,
  maxBytes: number,
  fails: boolean,
): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for await (const chunk of stream) {
    bytes += chunk.length;
    if (bytes <= maxBytes) text += decoder.decode(chunk, { stream: true });
    else if (fails) throw new TesseractFailure("unreadable", `tesseract said more than ${maxBytes} bytes`);
  }
  return text + decoder.decode();
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1)!.slice(0, 300);
}
