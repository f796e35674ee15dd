/** Delivers what is due, in a process that a test may kill. Arguments: the database's address, ADMIN_SECRET_KEY. */
import { directTransport } from "../../shared/database/transport/direct_transport.ts";
import { deliverDue } from "../../shared/events/deliver.ts";
import { eventHandlers } from "../../shared/events/open.ts";
import { systemClock as clock } from "../../shared/runtime/clock.ts";

const [url, secret] = Deno.args as [string, string];
const direct = directTransport({ url, connections: 2, pooler: false });
const variables: Record<string, string> = { ADMIN_SECRET_KEY: secret, EVE_WEBHOOK_HOSTS: "127.0.0.1" };
const { handlers } = eventHandlers({
  read: (name) => variables[name],
  gateway: "gateway.example",
  network: { fetch },
  clock,
  now: Date.now,
});
await deliverDue({ call: direct.call, clock, random: Math.random, log: () => {}, handlers }, {
  untilMs: clock.now() + 600_000,
  signal: new AbortController().signal,
});
await direct.close();
