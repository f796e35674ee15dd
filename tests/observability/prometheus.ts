/** A real Prometheus that scrapes every two seconds, from Debian's package. Tests skip without it, and never in CI. */
import { freePorts } from "../harness/ports.ts";

export interface Prometheus {
  /** An instant query: the values of each series that it answers with. */
  query(expression: string): Promise<number[]>;
  stop(): Promise<void>;
}

/** It ends by itself after so long, should the test die. */
const LONGEST_S = 1_800;

export async function startPrometheus(
  target: { url: string; path: string; key: string },
): Promise<Prometheus> {
  const folder = await Deno.makeTempDir({ prefix: "eve-gateway-prometheus-" });
  const [port] = freePorts(1);
  const { host, protocol } = new URL(target.url);
  // JSON is YAML.
  const config = {
    global: { scrape_interval: "2s", scrape_timeout: "2s" },
    scrape_configs: [{
      job_name: "eve-gateway",
      scheme: protocol.slice(0, -1),
      metrics_path: target.path,
      authorization: { credentials: target.key },
      static_configs: [{ targets: [host] }],
    }],
  };
  await Deno.writeTextFile(`${folder}/prometheus.yml`, JSON.stringify(config));
  const process = new Deno.Command("timeout", {
    args: [
      String(LONGEST_S),
      "prometheus",
      `--config.file=${folder}/prometheus.yml`,
      `--storage.tsdb.path=${folder}/data`,
      `--web.listen-address=127.0.0.1:${port}`,
      "--log.level=error",
    ],
    stdout: "null",
    stderr: "null",
  }).spawn();
  return {
    async query(expression) {
      const response = await fetch(`http://127.0.0.1:${port}/api/v1/query`, {
        method: "POST",
        body: new URLSearchParams({ query: expression }),
      });
      const { status, error, data } = await response.json();
      if (status !== "success") throw new Error(`${expression}: ${error}`);
      return data.result.map(({ value: [, value] }: { value: [number, string] }) => Number(value));
    },
    async stop() {
      process.kill("SIGTERM");
      await process.status;
      await Deno.remove(folder, { recursive: true });
    },
  };
}
