import { GatewayError } from "../contract/gateway_error.ts";
import { deliverDue, type DeliveryHandler } from "../events/deliver.ts";
import type { Operation } from "./operation.ts";

export interface EventHandlers {
  /** By `kind` in eve.event_consumers. */
  handlers: Readonly<Record<string, DeliveryHandler>>;
  /** Why some kind cannot be delivered here, in words for the owner. */
  problems: string[];
}

/** The operation `events`: delivers what is due. What cannot be delivered for want of a setting waits, and the run fails and says so. */
export function eventsOperation(
  open: () => EventHandlers,
  random: () => number = Math.random,
): Operation {
  return {
    name: "events",
    async run({ call, clock, log, deadline }) {
      const { handlers, problems } = open();
      const { delivered, failed, more } = await deliverDue({ call, clock, random, log, handlers }, {
        untilMs: clock.now() + deadline.leftMs(),
        signal: deadline.signal,
      });
      if (problems.length > 0) {
        throw new GatewayError("gateway_misconfigured", { detail: `events: ${problems.join("; ")}` });
      }
      return {
        tables: delivered + failed > 0 ? ["eve.event_deliveries"] : [],
        count: delivered + failed,
        details: { delivered, failed },
        more,
      };
    },
  };
}
