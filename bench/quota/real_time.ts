/**
 * The main job, in real time: a bot that calls at half of the capacity beside a notebook that saturates the free projects, through a
 * whole local stack (functions, database, emulator), for some minutes.
 */
import { freePorts } from "../../local/ports.ts";
import { removeHomeElsewhere } from "../../local/postgres_place.ts";
import { startStack } from "../../local/stack.ts";
import { makeTestFolder, removeAbandonedTestFolders } from "../../tests/harness/folders.ts";
import { median, percentile } from "../statistics.ts";
import { between, seededRandom } from "./random.ts";

const MODEL = "gemma-4-31b-it";
/** The local stack's demo keys are of so many quota projects, of 30 starts a minute each. */
const PROJECTS = 2;
const RPM = 30;
/** What is always waiting, beside what runs. */
const NOTEBOOK_CALLS = 40;
const BOT_PER_MINUTE = RPM * PROJECTS / 2;
const LATENCY_MS = 1_500;
const MAX_WAIT_MS = 100_000;
/** So long the notebook is alone, before the bot comes. */
const QUIET_MS = 60_000;
const WORDS =
  "the festival takes place in the old town on Saturday evening with music and food for everybody "
    .repeat(3);

interface CallResult {
  askedAt: number;
  wait: number;
  ok: boolean;
  code: string;
}

export interface RealTimeFigures {
  minutes: number;
  interval_ms: number;
  interactive: {
    calls: number;
    answered: number;
    median_wait_intervals: number;
    p95_wait_intervals: number;
    longest_wait_ms: number;
  };
  batch: { answered: number; failed: number };
  /** Starts that upstream took in the minutes with the bot, over what its limits allow in them. */
  share_of_rpm: number;
  refused_by_emulator: number;
  codes: Record<string, number>;
}

export async function realTime(
  minutes: number,
  tell: (line: string) => void,
): Promise<RealTimeFigures> {
  await removeAbandonedTestFolders();
  const folder = await makeTestFolder();
  const dataDir = `${folder.path}/data`;
  try {
    const stack = await startStack({
      dataDir,
      port: freePorts(3)[0]!,
      log: tell,
      emulator: {
        latencyMs: LATENCY_MS,
        window: { kind: "sliding" },
        keepRequests: 10_000,
      },
      env: {
        EVE_MAX_WAIT_MS: String(MAX_WAIT_MS),
        EVE_REQUEST_TIMEOUT_MS: String(MAX_WAIT_MS + 30_000),
      },
    });
    try {
      const random = seededRandom(1);
      const counts = async () => {
        const answer = await fetch(`${stack.emulatorUrl}/__control/stats`);
        return await answer.json() as {
          admitted: { total: number };
          refused: { total: number };
        };
      };
      const call = async (of: "interactive" | "batch"): Promise<CallResult> => {
        const askedAt = performance.now();
        const answer = await fetch(
          `${stack.url}/functions/v1/llm-invoke/v1/chat/completions`,
          {
            method: "POST",
            headers: {
              authorization: `Bearer ${stack.keys.secret}`,
              "content-type": "application/json",
              "x-eve-class": of,
              "x-eve-max-wait-ms": String(MAX_WAIT_MS),
            },
            body: JSON.stringify({
              model: MODEL,
              messages: [{
                role: "user",
                content: WORDS.slice(
                  0,
                  Math.round(between(random, 20, WORDS.length)),
                ),
              }],
            }),
          },
        );
        const body = await answer.json().catch(() => ({})) as {
          error?: { code?: string };
        };
        const wait = Math.max(0, performance.now() - askedAt - LATENCY_MS);
        return {
          askedAt,
          wait,
          ok: answer.ok,
          code: answer.ok ? "ok" : body.error?.code ?? String(answer.status),
        };
      };
      let over = false;
      const batch: CallResult[] = [];
      const notebook = Promise.all(
        Array.from({ length: NOTEBOOK_CALLS }, async () => {
          while (!over) batch.push(await call("batch"));
        }),
      );
      await sleep(QUIET_MS);
      const before = await counts();
      const began = performance.now();
      const period = 60_000 / BOT_PER_MINUTE;
      const asked: Promise<CallResult>[] = [];
      for (let n = 0; n < BOT_PER_MINUTE * minutes; n++) {
        await sleep(
          Math.max(
            0,
            began + n * period + between(random, 0, period / 2) -
              performance.now(),
          ),
        );
        asked.push(call("interactive"));
        if (n % BOT_PER_MINUTE === 0) {
          tell(`minute ${n / BOT_PER_MINUTE + 1} of ${minutes}`);
        }
      }
      const lasted = performance.now() - began;
      const after = await counts();
      over = true;
      const bot = await Promise.all(asked);
      await notebook;
      const end = await counts();
      const interval = 60_000 / (RPM * PROJECTS);
      const waits = bot.filter(({ ok }) => ok).map(({ wait }) => wait).sort((
        a,
        b,
      ) => a - b);
      const codes: Record<string, number> = {};
      for (const { code } of [...bot, ...batch]) {
        codes[code] = (codes[code] ?? 0) + 1;
      }
      const round = (value: number) => Math.round(value * 1_000) / 1_000;
      return {
        minutes,
        interval_ms: interval,
        interactive: {
          calls: bot.length,
          answered: waits.length,
          median_wait_intervals: round(median(waits) / interval),
          p95_wait_intervals: round(percentile(waits, 0.95) / interval),
          longest_wait_ms: Math.round(waits.at(-1) ?? 0),
        },
        batch: {
          answered: batch.filter(({ ok }) => ok).length,
          failed: batch.filter(({ ok }) => !ok).length,
        },
        share_of_rpm: round(
          (after.admitted.total - before.admitted.total) /
            (RPM * PROJECTS * lasted / 60_000),
        ),
        refused_by_emulator: end.refused.total,
        codes,
      };
    } finally {
      await stack.stop();
    }
  } finally {
    await removeHomeElsewhere(dataDir);
    await folder.remove();
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
