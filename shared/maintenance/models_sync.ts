import { createMaintenanceLedger } from "../database/maintenance/maintenance.ts";
import { ProviderFailure } from "../providers/provider.ts";
import { poolSecret } from "../stages/pool_secret.ts";
import type { Operation } from "./operation.ts";
import { overKeys } from "./over_keys.ts";

/**
 * Reads the list of models of every key in use, records what appeared and what vanished, and compares the lists with the
 * rows of google_ai_model_limits. Rows are the owner's: none is changed here.
 */
export const modelsSync: Operation = {
  name: "models_sync",
  async run(context) {
    const { call, providers, log } = context;
    const ledger = createMaintenanceLedger(call);
    const keys = (await ledger.keysToCheck()).filter((key) => key.isActive);
    const listed: Record<string, number> = {};
    const unanswered: Record<string, string> = {};
    const appeared: Record<string, string[]> = {};
    const vanished: Record<string, string[]> = {};
    const unblocked: Record<string, string[]> = {};
    let count = 0;
    const more = await overKeys(keys, context, async ({ id, alias, source, provider }, signal) => {
      const inspector = providers[provider];
      const secret = source === null ? null : await poolSecret(source, provider, context);
      if (inspector === undefined || secret === null) {
        unanswered[alias] = inspector === undefined ? "provider_unknown" : "secret_missing";
        return;
      }
      let models: string[];
      try {
        models = await inspector.listModels({ secret, signal });
      } catch (thrown) {
        // A key that upstream rejects is key_health's business. The lists that are known stay as they are.
        unanswered[alias] = thrown instanceof ProviderFailure ? thrown.diagnosis.code : "no_answer";
        return;
      }
      const news = await ledger.modelsSeen(id, models);
      listed[alias] = models.length;
      const note = (into: Record<string, string[]>, names: string[]) => {
        if (names.length > 0) into[alias] = names;
        count += names.length;
      };
      note(appeared, news.appeared);
      note(vanished, news.vanished);
      note(unblocked, news.unblocked);
    });
    const compared = await ledger.modelsCompared();
    if (compared.vanished.length > 0) log("warn", "models_vanished", { models: compared.vanished });
    return {
      tables: Object.keys(listed).length > 0 ? ["eve.key_models"] : [],
      count,
      details: {
        listed,
        unanswered,
        appeared,
        vanished,
        unblocked,
        served_but_vanished: compared.vanished,
        never_listed: compared.unlisted,
      },
      more,
    };
  },
};
