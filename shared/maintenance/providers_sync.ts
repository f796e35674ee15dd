import { pMapSettled, pMapStop } from "p-map";
import { createJobs } from "../database/jobs/jobs.ts";
import { createReading } from "../database/reading.ts";
import { createStages, type StageRow } from "../database/stages.ts";
import type { KeyEncryption } from "../secrets/key_encryption.ts";
import type { ReadVariable } from "../runtime/settings.ts";
import { seedFromEnvironment } from "../stages/seed.ts";
import { poolSecretOf } from "../stages/pool.ts";
import { refreshStage } from "../stages/refresh.ts";
import type { Operation } from "./operation.ts";

export interface ProvidersSyncDependencies {
  /** @throws GatewayError without ADMIN_SECRET_KEY */
  encryption: () => KeyEncryption;
  read: ReadVariable;
}

/** How many stages providers are asked about at the same time: there are a handful. */
const AT_ONCE = 4;

/**
 * Fills stages that were never set up out of the environment, and asks the provider of every other one about its key and its
 * models: see refreshStage. Cleans up jobs that have ended. What is wrong with a provider or a key is noted with the stage, and no failure of the run.
 */
export function providersSync({ encryption, read }: ProvidersSyncDependencies): Operation {
  return {
    name: "providers_sync",
    async run({ call, providers, secrets, storedKeys, log, deadline }) {
      const stages = createStages(call);
      const pool = { reading: createReading(call), secrets, storedKeys };
      const seeded = isReady(encryption) ? await seedFromEnvironment(stages, encryption(), read) : [];
      const dependencies = {
        stages,
        encryption,
        inspectors: providers,
        read,
        poolSecret: (provider: string) => poolSecretOf(pool, provider),
      };
      const rows = (await stages.list()).filter(isSetUp);
      const found: Record<string, string> = {};
      const replaced: Record<string, string> = {};
      const ended = await pMapSettled(rows, async (row) => {
        if (deadline.signal.aborted) return pMapStop;
        const noted = await refreshStage(dependencies, row, "providers_sync", deadline.signal);
        found[row.stage_type] = noted.status === "noted" ? noted.config_status : noted.status;
        if (noted.status === "noted" && noted.replaced) {
          replaced[row.stage_type] = noted.model;
          log("warn", "stage_model_vanished", {
            stage: row.stage_type,
            before: row.config.model,
            after: noted.model,
          });
        }
      }, { concurrency: AT_ONCE });
      const timeUp = deadline.signal.aborted;
      const jobs = timeUp ? null : await createJobs(call).tidy();
      for (const one of ended) if (one.status === "rejected" && !timeUp) throw one.reason;
      const count = Object.keys(found).length;
      return {
        tables: count > 0 ? ["public.provider_configs"] : [],
        count,
        details: { stages: found, replaced, seeded, jobs },
        more: timeUp,
      };
    },
  };
}

function isSetUp(row: StageRow): row is StageRow & { config: NonNullable<StageRow["config"]> } {
  return row.config !== null;
}

function isReady(encryption: () => KeyEncryption): boolean {
  try {
    encryption();
    return true;
  } catch {
    return false;
  }
}
