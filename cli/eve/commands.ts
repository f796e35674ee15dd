/** Every command, in the order of the list that --help shows. */
import type { Command } from "./command.ts";
import { alertCommands } from "./commands/alerts.ts";
import { cacheCommands } from "./commands/cache.ts";
import { consumerCommands } from "./commands/consumers.ts";
import { crawlCommands } from "./commands/crawl.ts";
import { databaseCommands } from "./commands/db.ts";
import { deadLetterCommands } from "./commands/dead_letters.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { graphCommands } from "./commands/graph.ts";
import { invokeCommand } from "./commands/invoke.ts";
import { jobCommands } from "./commands/jobs.ts";
import { keyCommands } from "./commands/keys.ts";
import { limitCommands } from "./commands/limits.ts";
import { maintenanceCommands } from "./commands/maintenance.ts";
import { modelCommands } from "./commands/models.ts";
import { providerCommands } from "./commands/providers.ts";
import { profileCommands } from "./commands/profiles.ts";
import { requestCommands } from "./commands/requests.ts";
import { storageCommands } from "./commands/storage.ts";
import { tailCommand } from "./commands/tail.ts";
import { telegramCommands } from "./commands/telegram.ts";
import { tenantCommands } from "./commands/tenants.ts";
import { tokenCommands } from "./commands/tokens.ts";
import { usageCommand } from "./commands/usage.ts";
import { visionCommands } from "./commands/vision.ts";
import { webhookCommands } from "./commands/webhooks.ts";

export const COMMANDS: readonly Command[] = [
  doctorCommand,
  invokeCommand,
  tailCommand,
  usageCommand,
  ...requestCommands,
  ...keyCommands,
  ...limitCommands,
  ...modelCommands,
  ...consumerCommands,
  ...tokenCommands,
  ...tenantCommands,
  ...cacheCommands,
  ...alertCommands,
  ...jobCommands,
  ...webhookCommands,
  ...deadLetterCommands,
  ...maintenanceCommands,
  ...storageCommands,
  ...visionCommands,
  ...telegramCommands,
  ...crawlCommands,
  ...graphCommands,
  ...providerCommands,
  ...databaseCommands,
  ...profileCommands,
];
