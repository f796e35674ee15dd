/** One run: a load, so many projects, a window, a contender. */
import type { WindowShape } from "../../local/emulator/quota.ts";
import { Journal, type MakeContender } from "./contender.ts";
import { type Load, startClients } from "./load.ts";
import { between, seededRandom } from "./random.ts";
import { SimulatedTime } from "./simulated_time.ts";
import { Upstream, WindowsDiffer } from "./upstream.ts";

/** An ordinary working hour; far from the Pacific midnight, which is another guarantee's business. */
const HOUR = Date.parse("2026-11-18T18:00:00Z");
const MINUTE_MS = 60_000;
/** Different seeds for different uses of chance. */
const SEED = { start: 1, offset: 2, network: 3, contender: 4, clients: 5 };

export interface Run {
  journal: Journal;
  refused: number;
  projects: number;
  startMs: number;
  endMs: number;
}

/** Google's window in three shapes; the fixed one begins its minutes at any second. */
export function windowShapes(seed: number): WindowShape[] {
  const offsetMs = Math.floor(
    between(seededRandom(seed, SEED.offset), 0, MINUTE_MS),
  );
  return [{ kind: "fixed", offsetMs }, { kind: "sliding" }, {
    kind: "token_bucket",
  }];
}

/** @throws WindowsDiffer when several shapes were given and one refuses a call */
export async function run(
  load: Load,
  projects: number,
  shapes: WindowShape[],
  seed: number,
  make: MakeContender,
): Promise<Run> {
  const startMs = HOUR +
    Math.floor(between(seededRandom(seed, SEED.start), 0, MINUTE_MS));
  const endMs = startMs + load.minutes * MINUTE_MS;
  const time = new SimulatedTime(startMs);
  const upstream = new Upstream(
    time,
    seededRandom(seed, SEED.network),
    load.limits,
    shapes,
  );
  const journal = new Journal();
  const contender = await make({
    time,
    upstream,
    journal,
    random: seededRandom(seed, SEED.contender),
    projects,
    limits: load.limits,
  });
  startClients(load, projects, seed + SEED.clients, time, (call) => {
    journal.wanted.push(call);
    return contender.serve(call);
  });
  await time.runUntil(endMs);
  return { journal, refused: upstream.refused, projects, startMs, endMs };
}

/**
 * The run against each shape. As long as no shape refuses anything, what happens does not depend on the shape, and one run
 * serves for all; otherwise there is one for each.
 */
export async function runAgainstEach(
  load: Load,
  projects: number,
  seed: number,
  make: MakeContender,
): Promise<{ shape: WindowShape["kind"]; run: Run }[]> {
  const shapes = windowShapes(seed);
  try {
    const one = await run(load, projects, shapes, seed, make);
    return shapes.map((shape) => ({ shape: shape.kind, run: one }));
  } catch (error) {
    if (!(error instanceof WindowsDiffer)) throw error;
  }
  const runs = [];
  for (const shape of shapes) {
    runs.push({
      shape: shape.kind,
      run: await run(load, projects, [shape], seed, make),
    });
  }
  return runs;
}
