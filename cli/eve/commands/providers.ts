import { createStages, type Stages } from "../../../shared/database/stages.ts";
import { createWebhooks } from "../../../shared/database/webhooks.ts";
import { rpcTransport } from "../../../shared/database/transport/rpc_transport.ts";
import {
  ADMIN_SECRET_VARIABLE,
  createKeyEncryption,
  type KeyEncryption,
} from "../../../shared/secrets/key_encryption.ts";
import type { Command } from "../command.ts";
import type { Connection } from "../connection.ts";
import { dim, green, red, table, yellow } from "../table.ts";

const stagesOf = ({ url, secretKey }: Connection): Stages => createStages(rpcTransport({ url, secretKey }));

const COLOURS: Readonly<Record<string, (text: string) => string>> = {
  active: green,
  warning: yellow,
  invalid: red,
  error: red,
};

/** One call renews so many: a person changes the secret once a year, and a call is over in a moment. */
const BATCH = 200;

export const providerCommands: Command[] = [
  {
    name: "providers list",
    summary: "stages, what serves them, and how it is",
    arguments: [],
    options: {},
    examples: ["providers list"],
    async run(_given, { connect }) {
      const stages = await stagesOf(connect()).list();
      const rows = stages.map(({ stage_type, config }) =>
        config === null ? [stage_type, dim("not set up"), "", "", ""] : [
          stage_type,
          COLOURS[config.status]!(config.status),
          config.provider_kind,
          config.model,
          [config.key_last_four ? `…${config.key_last_four}` : "", config.status_reason ?? ""].join(" ")
            .trim(),
        ]
      );
      return { json: stages, text: table(["stage", "status", "provider", "model", "key, reason"], rows) };
    },
  },
  {
    name: "providers reencrypt",
    summary:
      "encrypt the stored keys, and the secrets of webhooks, with the first secret of ADMIN_SECRET_KEY",
    about:
      `After a change of ${ADMIN_SECRET_VARIABLE}: give it as "new,old", run this, then drop the old one. What has changed meanwhile is left alone; running it again does no harm.`,
    arguments: [],
    options: {},
    examples: ["providers reencrypt"],
    async run(_given, { connect, variable, progress }) {
      const encryption = createKeyEncryption(variable(ADMIN_SECRET_VARIABLE));
      const connection = connect();
      const stages = stagesOf(connection);
      const kept = await stages.ciphertexts();
      const outdated = [];
      for (const each of kept) {
        const replacement = await encryption.renew(each.token);
        if (replacement !== null) outdated.push({ ...each, replacement });
      }
      let renewed = 0;
      for (let from = 0; from < outdated.length; from += BATCH) {
        progress(`${renewed} of ${outdated.length}`);
        renewed += await stages.reencrypt(outdated.slice(from, from + BATCH), "providers reencrypt");
      }
      const ofWebhooks = await reencryptWebhooks(connection, encryption);
      const overtaken = outdated.length - renewed + ofWebhooks.overtaken;
      const all = kept.length + ofWebhooks.kept;
      renewed += ofWebhooks.renewed;
      return {
        json: { kept: all, renewed, overtaken },
        text: `${renewed} of ${all} keys and secrets were encrypted again${
          overtaken === 0
            ? ""
            : `; ${overtaken} changed meanwhile: run it again before you drop the old secret`
        }.`,
        exitCode: overtaken === 0 ? 0 : 1,
      };
    },
  },
];

/** There are a few dozen at most, so one call does it. */
async function reencryptWebhooks({ url, secretKey }: Connection, encryption: KeyEncryption) {
  const webhooks = createWebhooks(rpcTransport({ url, secretKey }));
  const kept = await webhooks.ciphertexts();
  const outdated: { token: string; replacement: string }[] = [];
  for (const { token } of kept) {
    const replacement = await encryption.renew(token);
    if (replacement !== null) outdated.push({ token, replacement });
  }
  const renewed = outdated.length === 0 ? 0 : await webhooks.reencrypt(outdated);
  return { kept: kept.length, renewed, overtaken: outdated.length - renewed };
}
