/**
 * Vitest global setup: the files of a stopped database server that has the platform baseline and the migrations. Each test
 * stack begins with a copy of them, which takes a tenth of the time that making them does.
 */
import type { TestProject } from "vitest/node";
import { applyMigrations, applyPlatform } from "../../local/database.ts";
import { freePorts } from "./ports.ts";
import { startCluster } from "../../local/postgres.ts";
import { removeHomeElsewhere } from "../../local/postgres_place.ts";
import { makeTestFolder, removeAbandonedTestFolders } from "./folders.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** The server's data directory; absent where the project has no such setup. */
    clusterTemplate?: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  await removeAbandonedTestFolders();
  const folder = await makeTestFolder({ inMemory: true });
  const remove = async () => {
    await removeHomeElsewhere(folder.path);
    await folder.remove();
  };
  try {
    const cluster = await startCluster({ dataDir: folder.path, port: freePorts(1)[0]!, durable: false });
    try {
      await applyPlatform(cluster.superuserUrl());
      await applyMigrations(cluster.url());
    } finally {
      await cluster.stop();
    }
  } catch (error) {
    await remove();
    throw error;
  }
  const files = `${folder.path}/postgres`;
  // In a place that the server's account cannot enter, its files are elsewhere, and stacks make their own.
  if (await Deno.stat(files).then(() => true, () => false)) project.provide("clusterTemplate", files);
  return remove;
}

/** Puts a copy of the template where a stack in `dataDir` looks for its database server's files. */
export async function copyTemplate(template: string, dataDir: string): Promise<void> {
  await Deno.mkdir(dataDir, { recursive: true });
  const copied = await new Deno.Command("cp", { args: ["-a", template, `${dataDir}/postgres`] }).output();
  if (!copied.success) throw new Error(new TextDecoder().decode(copied.stderr));
}
