import type { ReadVariable } from "../runtime/settings.ts";
import { asGatewayError } from "../contract/gateway_error.ts";
import type { Network } from "../http/outgoing/public_post.ts";
import type { Clock } from "../runtime/clock.ts";
import { ADMIN_SECRET_VARIABLE, createKeyEncryption } from "../secrets/key_encryption.ts";
import type { DeliveryHandler } from "./deliver.ts";
import { webhookHandler } from "./webhooks/deliver_webhook.ts";
import { namedHosts } from "../http/outgoing/public_target.ts";
import { WEBHOOK_HOSTS_VARIABLE } from "./webhooks/register.ts";

export interface OpenHandlers {
  read: ReadVariable;
  /** What this gateway is called: the host of its project. */
  gateway: string;
  network: Network;
  clock: Clock;
  /** Milliseconds since 1970. */
  now: () => number;
}

/** What can be delivered with these settings, by `kind` in eve.event_consumers; and what cannot, and why. */
export function eventHandlers(
  { read, gateway, network, clock, now }: OpenHandlers,
): { handlers: Record<string, DeliveryHandler>; problems: string[] } {
  const handlers: Record<string, DeliveryHandler> = {};
  const problems: string[] = [];
  try {
    handlers.webhook = webhookHandler({
      ...network,
      encryption: createKeyEncryption(read(ADMIN_SECRET_VARIABLE)),
      allows: namedHosts(read(WEBHOOK_HOSTS_VARIABLE)),
      clock,
      now,
      gateway,
    });
  } catch (thrown) {
    problems.push(asGatewayError(thrown).publicMessage);
  }
  return { handlers, problems };
}
