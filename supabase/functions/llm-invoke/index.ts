import { systemClock } from "../../../shared/contract/clock.ts";
import { consoleLog as log } from "../../../shared/contract/log.ts";
import { createEntrance } from "../../../shared/doors/entrance.ts";
import { nativeDoor } from "../../../shared/doors/native.ts";
import { edgeBackground as background } from "../../../shared/gateway/background.ts";
import { createGateway } from "../../../shared/gateway/invoke.ts";
import { environmentSecrets } from "../../../shared/gateway/secrets.ts";
import { readSettings } from "../../../shared/gateway/settings.ts";
import { identify } from "../../../shared/identity/identify.ts";
import { createLedger } from "../../../shared/ledger/ledger.ts";
import { rpcTransport } from "../../../shared/ledger/rpc_transport.ts";
import { googleProvider } from "../../../shared/providers/google.ts";

const clock = systemClock;
const variable = (name: string) => Deno.env.get(name);

function open() {
  const settings = readSettings(variable);
  const { project, databaseKey, googleBaseUrl, maxWaitMs, maxBodyBytes } = settings;
  const ledger = createLedger(rpcTransport({ url: project.url, secretKey: databaseKey }));
  const providers = { google: googleProvider({ baseUrl: googleBaseUrl }) };
  const secrets = environmentSecrets(variable);
  const invoke = createGateway({
    ledger,
    providers,
    secrets,
    clock,
    random: Math.random,
    background,
    log,
    times: settings,
  });
  const doors = [nativeDoor({ maxWaitMs })];
  return { doors, identify: (request: Request) => identify(request, project), invoke, maxBodyBytes };
}

export default {
  fetch: createEntrance({ functionName: "llm-invoke", open, clock, newId: () => crypto.randomUUID(), log }),
};
