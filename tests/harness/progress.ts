/**
 * Vitest reporter: how far the run is. A line for each file that ends, with files done of all, tests so far and the time;
 * failures at once, with their errors, and all together again at the end. On a terminal also a last line that is rewritten.
 */
import { DefaultReporter, type TestCase, type TestModule, type TestSpecification } from "vitest/node";

/** How often the last line on a terminal moves on, ms. */
const REDRAW_MS = 1_000;
const CLEAR_LINE = "\r\x1b[2K";

export default class ProgressReporter extends DefaultReporter {
  #files = 0;
  #filesDone = 0;
  #tests = 0;
  #failed = 0;
  readonly #running = new Set<string>();
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor() {
    super({ summary: false });
  }

  override onTestRunStart(specifications: readonly TestSpecification[]): void {
    super.onTestRunStart(specifications);
    this.#files = specifications.length;
    this.#filesDone = this.#tests = this.#failed = 0;
    if (!this.isTTY) return;
    this.#timer = setInterval(() => this.#draw(), REDRAW_MS);
  }

  onTestModuleStart(module: TestModule): void {
    this.#running.add(this.relative(module.moduleId));
    this.#draw();
  }

  override onTestCaseResult(test: TestCase): void {
    this.#tests++;
    const result = test.result();
    if (result.state === "failed") {
      this.#failed++;
      this.#erase();
      this.error(`\nFAIL ${this.relative(test.module.moduleId)} > ${test.fullName}`);
      super.onTestCaseResult(test);
      for (const error of result.errors) this.ctx.logger.printError(error, { project: test.project });
    }
    this.#draw();
  }

  override onTestModuleEnd(module: TestModule): void {
    this.#filesDone++;
    this.#running.delete(this.relative(module.moduleId));
    this.#erase();
    super.onTestModuleEnd(module);
    this.#draw();
  }

  /** Before the file's own line: where in the run it stands. Its tests are not listed, unless one failed. */
  override printTestModule(module: TestModule): void {
    const width = String(this.#files).length;
    const done = String(this.#filesDone).padStart(width);
    const log = this.log.bind(this);
    let first = true;
    this.log = (line: string) => {
      log(first ? `[${done}/${this.#files} ${this.#elapsed()}]${line}` : line);
      first = false;
    };
    try {
      super.printTestModule(module);
    } finally {
      this.log = log;
    }
  }

  override printTestCase(...[state, test]: Parameters<DefaultReporter["printTestCase"]>): void {
    if (test.result().state === "failed") super.printTestCase(state, test);
  }

  override async onTestRunEnd(...ended: Parameters<DefaultReporter["onTestRunEnd"]>): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#erase();
    super.onTestRunEnd(...ended);
    await this.#sayWhatIsLeftOut(ended[0]);
  }

  /** Tests are skipped for what a machine lacks. In CI it lacks nothing; and who names tests has the others skipped. */
  async #sayWhatIsLeftOut(modules: readonly TestModule[]): Promise<void> {
    if (process.env.CI !== undefined || this.ctx.config.testNamePattern !== undefined) return;
    if (!modules.some((module) => !module.children.allTests("skipped").next().done)) return;
    const { leftOut } = await import("./left_out.ts");
    for (const line of leftOut()) this.log(line);
  }

  #elapsed(): string {
    const seconds = Math.round((performance.now() - this.start) / 1_000);
    return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  }

  #draw(): void {
    if (this.#timer === undefined) return;
    const failed = this.#failed > 0 ? `, ${this.#failed} failed` : "";
    const line =
      `${this.#filesDone} of ${this.#files} files, ${this.#tests} tests${failed}, ${this.#elapsed()}: ` +
      [...this.#running].join(", ");
    const columns = process.stdout.columns || 80;
    process.stdout.write(CLEAR_LINE + line.slice(0, columns - 1));
  }

  #erase(): void {
    if (this.#timer !== undefined) process.stdout.write(CLEAR_LINE);
  }
}
