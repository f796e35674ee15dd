/**
 * A child process of the stack that serves on a port of its own choosing, is started again when it ends by itself, and
 * ends when the stack does, in whatever way that happens: its standard input is a pipe that it watches.
 */

import { eachLine } from "./lines.ts";

export interface ProcessSpec {
  /** For log lines, e.g. "function llm-invoke". */
  name: string;
  /** Arguments of `deno`. */
  args: string[];
  /** The whole environment; nothing is inherited. */
  env: Record<string, string>;
  /** Finds the URL it listens on in a line of its standard output. */
  listening: RegExp;
  /** What it prints, line by line, without the line announcing the URL. */
  output: (line: string) => void;
  /** What happens to it, one line at a time. */
  log: (line: string) => void;
  /** Called whenever its process id or URL changes. */
  changed?: () => void;
}

/** Pause before the first restart; doubles with every restart in a row. */
const FIRST_PAUSE_MS = 100;
/** A function whose file is broken is tried again this often: soon after it is repaired, yet no busy loop. */
const LONGEST_PAUSE_MS = 5_000;
/** A process that ran this long is not in a crash loop. */
const STEADY_MS = 10_000;
/** Importing everything takes a second on a slow machine; the first start also compiles. */
const START_TIMEOUT_MS = 60_000;
/** What was started in the background (`waitUntil`) gets this long to finish; hosted functions get no more. */
const STOP_TIMEOUT_MS = 12_000;

export class SupervisedProcess {
  readonly name: string;
  /** Where it listens; undefined while it is down. */
  url: string | undefined;
  /** The living process; undefined while it is down. */
  pid: number | undefined;
  /** How often it was started again after ending by itself. */
  restarts = 0;

  readonly #spec: ProcessSpec;
  readonly #firstStart = Promise.withResolvers<void>();
  #child: Deno.ChildProcess | undefined;
  #waiters: (() => void)[] = [];
  #stopping = false;
  #restartAtOnce = false;
  #cutPause: () => void = () => {};
  #ended: Promise<void> | undefined;

  constructor(spec: ProcessSpec) {
    this.#spec = spec;
    this.name = spec.name;
  }

  /**
   * Starts it. Resolves when it listens, or when the first try has failed (it is then tried again in the background), or
   * at once if it was stopped before.
   */
  async start(): Promise<void> {
    if (this.#stopping) return;
    this.#ended ??= this.#superviseUntilStopped();
    await this.#firstStart.promise;
  }

  /** Ends the living process, if any, with a signal; it takes no new requests from then on. */
  kill(signal: Deno.Signal = "SIGKILL"): void {
    this.url = undefined;
    try {
      this.#child?.kill(signal);
    } catch {
      // It ended at this very moment.
    }
  }

  /** Ends the process in an orderly way and starts it again. Resolves when it listens. */
  async restart(): Promise<void> {
    this.#restartAtOnce = true;
    const running = this.#child;
    this.kill("SIGTERM");
    this.#cutPause();
    await running?.status;
    await this.listening();
  }

  /** Resolves with the URL as soon as there is one; throws after `timeoutMs`. */
  async listening(timeoutMs = START_TIMEOUT_MS): Promise<string> {
    const deadline = Date.now() + timeoutMs;
    while (this.url === undefined) {
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`${this.name} did not come up within ${timeoutMs} ms.`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#waiters.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
    return this.url;
  }

  /** Ends it for good: an orderly end first, by force when that takes too long. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#cutPause();
    this.kill("SIGTERM");
    const timer = setTimeout(() => this.kill("SIGKILL"), STOP_TIMEOUT_MS);
    await this.#ended;
    clearTimeout(timer);
  }

  async #superviseUntilStopped(): Promise<void> {
    let pause = FIRST_PAUSE_MS;
    while (!this.#stopping) {
      const startedAt = Date.now();
      const status = await this.#runOnce();
      this.#firstStart.resolve();
      if (this.#stopping) break;
      if (this.#restartAtOnce) {
        this.#restartAtOnce = false;
        continue;
      }
      this.restarts++;
      if (Date.now() - startedAt > STEADY_MS) pause = FIRST_PAUSE_MS;
      const how = status.signal ? `was ended by ${status.signal}` : `ended with code ${status.code}`;
      this.#spec.log(`${this.name} ${how}; starting it again in ${pause} ms`);
      await this.#pause(pause);
      pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    }
  }

  async #runOnce(): Promise<Deno.CommandStatus> {
    const child = new Deno.Command(Deno.execPath(), {
      args: this.#spec.args,
      env: this.#spec.env,
      clearEnv: true,
      // A terminal's Ctrl-C goes to its whole process group, but it is the supervisor who decides the order of the end.
      detached: true,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#child = child;
    this.pid = child.pid;
    this.#spec.changed?.();
    const tooLong = setTimeout(() => {
      this.#spec.log(`${this.name} did not come up within ${START_TIMEOUT_MS / 1000} s`);
      this.kill("SIGKILL");
    }, START_TIMEOUT_MS);
    const output = [
      eachLine(child.stdout, (line) => {
        const url = line.match(this.#spec.listening)?.[1];
        if (url === undefined || this.url !== undefined) return this.#spec.output(line);
        clearTimeout(tooLong);
        this.#nowListening(url);
      }),
      eachLine(child.stderr, this.#spec.output),
    ];
    if (this.#stopping) this.kill("SIGTERM");
    const status = await child.status;
    clearTimeout(tooLong);
    this.#child = this.pid = this.url = undefined;
    await Promise.all(output);
    await child.stdin.close().catch(() => {});
    this.#spec.changed?.();
    return status;
  }

  #nowListening(url: string): void {
    this.url = url;
    this.#firstStart.resolve();
    for (const wake of this.#waiters.splice(0)) wake();
    this.#spec.changed?.();
  }

  async #pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#cutPause = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#cutPause = () => {};
  }
}
