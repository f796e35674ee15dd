/** Google, as far as quota is concerned: the emulator's own engine, reached over a network that is late at times. */
import { Quota, type WindowShape } from "../../local/emulator/quota.ts";
import type { Limits } from "./load.ts";
import { between, type Random } from "./random.ts";
import type { SimulatedTime } from "./simulated_time.ts";

/** How late a call reaches Google at most, after it was sent. Uniform from 0; less than the guard, which is 250 ms. */
export const LATEST_MS = 150;
/** From there to the answer: what a Gemma model takes. */
const ANSWER_MS = [2_000, 10_000] as const;
const MODEL = "model";

export type Answer =
  | { admitted: true }
  /** 429, with the time that Google's RetryInfo would name. */
  | { admitted: false; retryMs: number };

/** The windows that were asked did not all admit a call: from here on, what happens depends on which one it is. */
export class WindowsDiffer extends Error {}

export class Upstream {
  /** Calls answered with 429. */
  refused = 0;
  readonly #quotas: Quota[];

  /** @param shapes one window, or several to be asked all at once as long as they all admit everything */
  constructor(
    private readonly time: SimulatedTime,
    private readonly random: Random,
    private readonly limits: Limits,
    shapes: WindowShape[],
  ) {
    this.#quotas = shapes.map((shape) => new Quota(shape, 60_000));
  }

  /**
   * Resolves with the answer; `onAdmitted` is told as soon as Google has begun with it.
   * @throws WindowsDiffer when there are several windows and one of them refuses
   */
  async call(
    lane: number,
    tokens: number,
    onAdmitted: () => void,
  ): Promise<Answer> {
    await this.time.sleep(Math.floor(between(this.random, 0, LATEST_MS + 1)));
    for (const quota of this.#quotas) {
      const violations = quota.admit(
        this.time.now(),
        `project-${lane}`,
        MODEL,
        this.limits,
        {
          requests: 1,
          tokens,
        },
      );
      if (violations.length === 0) continue;
      if (this.#quotas.length > 1) throw new WindowsDiffer();
      this.refused++;
      return {
        admitted: false,
        retryMs: Math.max(...violations.map((violation) => violation.waitMs)),
      };
    }
    onAdmitted();
    await this.time.sleep(between(this.random, ...ANSWER_MS));
    return { admitted: true };
  }
}
