/** Versity's gateway over a folder: a second store, since stores differ. */
import { freePorts } from "./ports.ts";
import { startProcess } from "./background_process.ts";
import { makeTestFolder } from "./folders.ts";
import { until } from "./patience.ts";
import { ACCESS_KEY_ID, bucketMaker, SECRET_ACCESS_KEY, type TestStore, VERSITYGW } from "./stores.ts";

export async function startVersitygw(): Promise<TestStore> {
  const folder = await makeTestFolder();
  const [port] = freePorts(1);
  const endpoint = `http://127.0.0.1:${port}`;
  const process = await startProcess(
    [VERSITYGW!, "--port", `127.0.0.1:${port}`, "posix", folder.path],
    { ROOT_ACCESS_KEY: ACCESS_KEY_ID, ROOT_SECRET_KEY: SECRET_ACCESS_KEY },
  );
  const stop = async () => {
    await process.kill();
    await folder.remove();
  };
  try {
    let code: number | undefined;
    process.ended.then((ended) => code = ended);
    await until(async () => {
      if (code !== undefined) throw new Error(`it ended with ${code}: ${process.said()}`);
      try {
        await (await fetch(endpoint)).body?.cancel();
        return true;
      } catch {
        return false;
      }
    });
  } catch (error) {
    await stop();
    throw error;
  }
  const settings = {
    endpoint,
    region: "us-east-1",
    bucket: "none-yet",
    accessKeyId: ACCESS_KEY_ID,
    secretAccessKey: SECRET_ACCESS_KEY,
  };
  return { settings, newBucket: bucketMaker(settings), stop };
}
