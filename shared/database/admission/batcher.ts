import { GatewayError } from "../../contract/gateway_error.ts";
import { SqlFailure } from "../transport/transport.ts";

/** A call that waits for its batch, and how it is answered. */
export interface Waiting<Asked, Answer> {
  asked: Asked;
  resolve: (answer: Answer) => void;
  reject: (thrown: unknown) => void;
}

export interface BatchStrategies<Asked, Answer> {
  /** One call for all of them, answered in their order; null: this one has to be called by itself. */
  batch: (asked: Asked[]) => Promise<(Answer | null)[]>;
  single: (asked: Asked) => Promise<Answer>;
}

/** Connection, resources, operator; PostgREST without a connection. A deadlock is not among them: a call by itself cannot be in one. */
const UNAVAILABLE = /^(08|53|57|PGRST00)/;

/**
 * Makes one call for a whole batch, and one for each by itself where that does not work. One that fails fails no other.
 * @returns the indexes of those that the batch could not answer, as soon as the call for all has been answered; their own
 *   calls may still be under way
 */
export async function runBatch<Asked, Answer>(
  waiting: Waiting<Asked, Answer>[],
  { batch, single }: BatchStrategies<Asked, Answer>,
): Promise<number[]> {
  const callAlone = ({ asked, resolve, reject }: Waiting<Asked, Answer>) =>
    void single(asked).then(resolve, reject);
  try {
    const answers = await batch(waiting.map(({ asked }) => asked));
    const left: number[] = [];
    for (const [place, one] of waiting.entries()) {
      const answer = answers[place] ?? null;
      if (answer !== null) {
        one.resolve(answer);
        continue;
      }
      left.push(place);
      callAlone(one);
    }
    return left;
  } catch (thrown) {
    if (isUnavailable(thrown)) { for (const { reject } of waiting) reject(thrown); }
    else waiting.forEach(callAlone);
    return [];
  }
}

/** Whether the database cannot be reached or takes no more calls: then calls one by one would fail as well. */
function isUnavailable(thrown: unknown): boolean {
  if (!(thrown instanceof GatewayError) || thrown.code !== "database_unavailable") return false;
  return !(thrown.cause instanceof SqlFailure) || UNAVAILABLE.test(thrown.cause.sqlstate);
}
