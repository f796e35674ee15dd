import { GatewayError } from "../../contract/gateway_error.ts";
import { SqlFailure } from "../transport/transport.ts";

/** What somebody asked for, and how he is told. */
export interface Waiting<Asked, Answer> {
  asked: Asked;
  resolve: (answer: Answer) => void;
  reject: (thrown: unknown) => void;
}

export interface BatchStrategies<Asked, Answer> {
  /** One call for all of them, answered in their order; null: this one has to be asked for by itself. */
  together: (asked: Asked[]) => Promise<(Answer | null)[]>;
  alone: (asked: Asked) => Promise<Answer>;
}

/** Connection, resources, operator; PostgREST without a connection. A deadlock is none: alone, nobody is in its circle. */
const AWAY = /^(08|53|57|PGRST00)/;

/**
 * Asks for several things in one call, and for each by itself where that does not do. One that fails fails no other.
 * @returns the places of those that could not be had together, when the call for all has been answered; those who wait for
 *   one by itself may have to wait on
 */
export async function runBatch<Asked, Answer>(
  waiting: Waiting<Asked, Answer>[],
  { together, alone }: BatchStrategies<Asked, Answer>,
): Promise<number[]> {
  const askAlone = ({ asked, resolve, reject }: Waiting<Asked, Answer>) =>
    void alone(asked).then(resolve, reject);
  try {
    const answers = await together(waiting.map(({ asked }) => asked));
    const left: number[] = [];
    for (const [place, one] of waiting.entries()) {
      const answer = answers[place] ?? null;
      if (answer !== null) {
        one.resolve(answer);
        continue;
      }
      left.push(place);
      askAlone(one);
    }
    return left;
  } catch (thrown) {
    if (isAway(thrown)) { for (const { reject } of waiting) reject(thrown); }
    else waiting.forEach(askAlone);
    return [];
  }
}

/** A database that cannot be reached, or takes no more calls, is as far away from each of them. */
function isAway(thrown: unknown): boolean {
  if (!(thrown instanceof GatewayError) || thrown.code !== "database_unavailable") return false;
  return !(thrown.cause instanceof SqlFailure) || AWAY.test(thrown.cause.sqlstate);
}
