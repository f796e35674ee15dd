/**
 * Vitest global setup: one PostgreSQL server for the run, with two template databases to clone from.
 * The server dies with the process that started it (see local/postgres.ts), so an interrupted run leaves none behind.
 */
import postgres from "postgres";
import type { TestProject } from "vitest/node";
import { applyMigrations, applyPlatform } from "../../local/database.ts";
import { freePorts } from "./ports.ts";
import { type Cluster, startCluster } from "../../local/postgres.ts";
import { removeHomeElsewhere } from "../../local/postgres_place.ts";
import { makeTestFolder, removeAbandonedTestFolders } from "./folders.ts";

/** Template databases: `platform` is a fresh hosted project, `migrated` has this checkout's migrations too. */
export const TEMPLATES = { platform: "template_platform", migrated: "template_migrated" } as const;

declare module "vitest" {
  interface ProvidedContext {
    databaseServer: { port: number };
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  await removeAbandonedTestFolders();
  const folder = await makeTestFolder({ inMemory: true });
  const [port] = freePorts(1);
  const cluster = await startCluster({ dataDir: folder.path, port: port!, durable: false });
  const teardown = async () => {
    await cluster.stop();
    await removeHomeElsewhere(folder.path);
    await folder.remove();
  };
  try {
    await makeTemplates(cluster);
  } catch (error) {
    await teardown();
    throw error;
  }
  project.provide("databaseServer", { port: port! });
  return teardown;
}

async function makeTemplates(cluster: Cluster): Promise<void> {
  const superuser = postgres(cluster.superuserUrl(), { max: 1, onnotice: () => {} });
  try {
    await superuser.unsafe(`create database ${TEMPLATES.platform}`);
    await applyPlatform(cluster.superuserUrl(TEMPLATES.platform));
    await superuser.unsafe(
      `create database ${TEMPLATES.migrated} template ${TEMPLATES.platform} owner postgres`,
    );
  } finally {
    await superuser.end();
  }
  await applyMigrations(cluster.url(TEMPLATES.migrated));
}
