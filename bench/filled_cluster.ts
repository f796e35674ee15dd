/** For benchmarks over many rows: PostgreSQL is filled with little care for its disk, and measured as a durable one. */
import { applyMigrations, applyPlatform } from "../local/database.ts";
import { freePorts } from "../local/ports.ts";
import { startCluster } from "../local/postgres.ts";
import { removeHomeElsewhere } from "../local/postgres_place.ts";
import { makeTestFolder } from "../tests/harness/folders.ts";

/**
 * Measures over a database with the migrations and what `fill` puts into it; removes it afterwards.
 * @param fill and `measure` are given the URL of the migrations' owner
 */
export async function withFilledCluster<Figures>(
  fill: (url: string) => Promise<void>,
  measure: (url: string) => Promise<Figures>,
): Promise<Figures> {
  const folder = await makeTestFolder();
  try {
    const [port] = freePorts(1);
    const filling = await startCluster({ dataDir: folder.path, port: port!, durable: false });
    try {
      await applyPlatform(filling.superuserUrl());
      await applyMigrations(filling.url());
      const began = performance.now();
      await fill(filling.url());
      console.error(`filled in ${Math.round((performance.now() - began) / 1_000)} s`);
    } finally {
      await filling.stop();
    }
    const cluster = await startCluster({ dataDir: folder.path, port: port! });
    try {
      return await measure(cluster.url());
    } finally {
      await cluster.stop();
    }
  } finally {
    await removeHomeElsewhere(folder.path);
    await folder.remove();
  }
}
