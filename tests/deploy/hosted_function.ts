/** Runs an uploaded function the way a host does: its uploaded files, the network, its environment, and nothing else. */
import { dirname } from "node:path";
import { hostedRuntime } from "./hosted_runtime.ts";
import { PATIENCE_MS } from "../harness/patience.ts";
import type { Upload } from "./management_api.ts";

export interface HostedFunction {
  /** The function's own address, as it sees it: `/functions/v1` is stripped, its name is not. */
  url: string;
  stop(): Promise<void>;
}

export interface HostOptions {
  /** An existing, empty folder. */
  folder: string;
  /** All the environment the function sees. */
  env: Record<string, string>;
  /** Where packages come from, and where they are kept. */
  npm: { registry: string; cache: string };
}

/** Writes the upload's files into the folder. */
export async function layOut(upload: Upload, folder: string): Promise<void> {
  for (const [path, text] of upload.files) {
    if (path.startsWith("/") || path.split("/").includes("..")) {
      throw new Error(`${path} is outside the project.`);
    }
    await Deno.mkdir(dirname(`${folder}/${path}`), { recursive: true });
    await Deno.writeTextFile(`${folder}/${path}`, text);
  }
}

/** Lays an upload out and serves it. Throws with what Deno printed if it does not come up. */
export async function hostUpload(upload: Upload, options: HostOptions): Promise<HostedFunction> {
  const { folder, env, npm } = options;
  await layOut(upload, folder);
  const child = new Deno.Command(await hostedRuntime(), {
    args: [
      "serve",
      "--allow-net",
      "--allow-env",
      "--no-prompt",
      "--host=127.0.0.1",
      "--port=0",
      `--config=${upload.metadata.import_map_path}`,
      upload.metadata.entrypoint_path,
    ],
    cwd: folder,
    clearEnv: true,
    env: { ...env, DENO_DIR: npm.cache, NPM_CONFIG_REGISTRY: npm.registry, NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let printed = "";
  const address = Promise.withResolvers<string>();
  const read = async (stream: ReadableStream<Uint8Array>) => {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      printed += text;
      const url = printed.match(/Listening on (http:\/\/127\.0\.0\.1:\d+)/)?.[1];
      if (url !== undefined) address.resolve(url);
    }
  };
  const ended = Promise.all([read(child.stdout), read(child.stderr), child.status]);
  const notUp = (why: string) => address.reject(new Error(`${upload.slug} ${why}:\n${printed}`));
  ended.then(() => notUp("ended before it listened"));
  const timer = setTimeout(() => notUp("does not listen"), PATIENCE_MS);
  const stop = async () => {
    try {
      child.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await ended;
  };
  try {
    return { url: `${await address.promise}/${upload.slug}`, stop };
  } catch (error) {
    await stop();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
