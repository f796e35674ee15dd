import { functionUrl } from "../runtime/function_names.ts";
import { type CallsOptions, openCalls } from "../calls/open_calls.ts";
import { workerCall } from "../calls/worker_call.ts";
import { createJobQueue } from "../database/jobs/job_queue.ts";
import { createJobLeases, type WorkerPlace } from "../database/jobs/job_leases.ts";
import { deliverDue } from "../events/deliver.ts";
import { eventHandlers } from "../events/open.ts";
import { batchRunner } from "./batch_runner.ts";
import { callRunner } from "./call_runner.ts";
import { keptWithMedia } from "./kept_with_media.ts";
import { ocrRunner } from "./ocr_runner.ts";
import { createTelegramRows } from "../database/posts/telegram.ts";
import { startEveryMs } from "../database/start_interval.ts";
import { createVisionBooks } from "../database/vision.ts";
import { modelFromEnvironment } from "../database/environment_models.ts";
import { openAnalysts } from "../vision/analysts/open.ts";
import type { TesseractProgram } from "../vision/analysts/tesseract.ts";
import { createVisionCache } from "../vision/cache.ts";
import { beginningOf, storedPicture } from "../vision/stored_picture.ts";
import type { JobRunner } from "./job_runner.ts";
import { analystLines } from "./line.ts";
import { botById } from "../telegram/open.ts";
import { telegramRunner } from "./telegram_runner.ts";
import { CRAWL_HOSTS_VARIABLE } from "../crawl/crawl.ts";
import { createCrawlBooks } from "../database/posts/crawl.ts";
import { namedHosts } from "../http/outgoing/public_target.ts";
import { crawlRunner } from "./crawl_runner.ts";
import { visionRunner } from "./vision_runner.ts";
import { runWorker } from "./worker.ts";

/**
 * A hosted function has 2 s of CPU for a request, and all runs of a worker are one request's: some 10 ms each. Another worker goes on.
 */
const MAX_JOBS_OF_A_FUNCTION = 120;
/** A picture is read, hashed and sent in Base64: some 100 ms, as much as ten others. */
export const JOBS_OF_A_PICTURE = 10;
/** Its job holds the picture meanwhile, and another analyst may have room. */
export const MOST_WAIT_OF_A_PICTURE_MS = 60_000;

/** A call's time is over so long before the worker's: then it is settled and written down in time. */
const NOTE_MS = 2_000;

export interface OpenWorker {
  /**
   * Works once: until there is nothing to do, or the time is over. Another worker is called where there is more, as soon as this one begins
   * nothing more. Until then a second call is the first one: they have the time of one.
   */
  work(stop?: AbortSignal): Promise<void>;
  /** The process is about to end. */
  leave: () => void;
}

/** The worker with all that it runs jobs with: the same in the function and outside. */
export function openWorker(
  { place, tesseract = null, files = true, ...options }:
    & Omit<CallsOptions, "requestTimeoutMs" | "background">
    & {
      place: WorkerPlace;
      /** Null: jobs of the kind `ocr` are left to a worker that has it. */
      tesseract?: TesseractProgram | null;
      /** False: the project's files cannot be read here, and jobs that are about them are left to other workers. */
      files?: boolean;
    },
): OpenWorker {
  const { settings, clock, newId, log } = options;
  const { budgetMs, concurrency } = settings.worker;
  // Of the worker that began last: of one before it only ends are missing.
  let endsAt = Infinity;
  const settling = new Set<Promise<void>>();
  const calls = openCalls({
    ...options,
    // A worker has ended when its calls have been settled.
    background: keep,
    // No call outlives the worker that makes it.
    requestTimeoutMs: () => Math.max(0, Math.min(settings.requestTimeoutMs, endsAt - clock.now())),
  });
  const { maxBodyBytes, maxWaitMs } = settings;
  const run = keptWithMedia(callRunner({ ...calls, maxBodyBytes, maxWaitMs, clock, newId, log }), {
    media: calls.jobMedia,
    clock,
  });
  let looking: JobRunner | null = null;
  // A wrong setting of vision is an error of its jobs alone.
  const look: JobRunner = (job, terms) => (looking ??= openVision())(job, terms);
  const telegram = telegramRunner({
    rows: createTelegramRows(calls.transport),
    bot: botById(options.read, { fetch: options.fetch, clock }),
    media: calls.media,
    log,
  });
  const leases = createJobLeases(calls.transport);
  // What cannot be delivered for want of a setting waits; the operation `events` says so.
  const { handlers } = eventHandlers({
    read: options.read,
    gateway: new URL(settings.project.url).host,
    network: { fetch: options.fetch, resolve: options.resolve, connect: options.connect },
    clock,
    now: Date.now,
  });
  const deliver = ({ untilMs, signal }: { untilMs: number; signal: AbortSignal }) =>
    deliverDue({ call: calls.transport, clock, random: Math.random, log, handlers }, {
      untilMs,
      signal,
      waits: false,
    });
  const wake = workerCall(
    options.fetch,
    functionUrl(settings.project.url, "worker"),
    settings.databaseKey,
    log,
  );
  let working: Promise<void> | null = null;
  return {
    work: (stop) => working ?? begin(stop),
    leave: calls.leave,
  };

  function openVision(): JobRunner {
    const { models, ocr } = openAnalysts({
      read: options.read,
      gateway: calls.gateway,
      resolve: calls.resolve,
      clock,
      joinLine: analystLines({
        maxWaitMs: Math.min(maxWaitMs, MOST_WAIT_OF_A_PICTURE_MS),
        startEveryMs: (model) => startEveryMs(calls.transport, model),
        clock,
      }),
      fetch: options.fetch,
      takeTurn: createCrawlBooks(calls.transport).turn,
      know: (model) => modelFromEnvironment(calls.transport, model),
      tesseract,
      ocrQueue: { ...createJobQueue(calls.transport), newId },
    });
    return visionRunner({
      books: createVisionBooks(calls.transport),
      cache: createVisionCache(calls.media, log),
      analysts: [...models, ...ocr],
      beginning: async (object, atMost) => await beginningOf(await calls.media(), object, atMost),
      picture: (stored, whole) => storedPicture(calls.media, stored, whole),
      clock,
      log,
    });
  }

  function keep(work: Promise<void>): void {
    settling.add(work);
    work.finally(() => settling.delete(work));
  }

  /** Of jobs that are about files. */
  function filesRunners(): Record<string, JobRunner> {
    return {
      vision: look,
      crawl: crawlRunner({
        books: createCrawlBooks(calls.transport),
        network: {
          fetch: options.fetch,
          resolve: options.resolve,
          connect: options.connect,
          clock,
          allows: namedHosts(options.read(CRAWL_HOSTS_VARIABLE)),
        },
        media: calls.media,
        now: Date.now,
      }),
      telegram,
      ...(tesseract !== null && { ocr: ocrRunner({ program: tesseract, media: calls.media }) }),
    };
  }

  function begin(stop: AbortSignal | undefined): Promise<void> {
    const free = () => {
      if (working === own) working = null;
    };
    const own: Promise<void> = workOnce(stop, free).finally(free);
    return working = own;
  }

  async function workOnce(stop: AbortSignal | undefined, free: () => void): Promise<void> {
    endsAt = clock.now() + budgetMs - NOTE_MS;
    const report = await runWorker(
      {
        leases,
        runners: {
          llm: run,
          response: run,
          provider_job: run,
          batch: batchRunner(calls),
          ...(files && filesRunners()),
        },
        deliver,
        clock,
        newId,
        log,
      },
      {
        place,
        budgetMs,
        concurrency,
        ...(place === "edge" && {
          maxJobs: MAX_JOBS_OF_A_FUNCTION,
          weights: { vision: JOBS_OF_A_PICTURE },
          handOver: () => {
            free();
            keep(wake());
          },
        }),
        ...(stop !== undefined && { stop }),
      },
    );
    await Promise.allSettled([...settling]);
    if (report.more && place === "edge") await wake();
  }
}
