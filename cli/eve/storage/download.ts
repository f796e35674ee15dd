import { createHash } from "node:crypto";
import type { MediaObject } from "../../../shared/database/media/media.ts";
import type { CommandDependencies } from "../command.ts";
import type { Connection } from "../connection.ts";
import { CliFailure, unreachable } from "../failure.ts";
import { postToApi } from "./api.ts";
import { asPath } from "./api.ts";
import { progressBar } from "./progress_bar.ts";

/** The address is used at once. */
const ADDRESS_SECONDS = 300;

/**
 * Writes a stored file to `path`, which gets its name only when everything has come and has the file's hash.
 * @throws CliFailure
 */
export async function downloadFile(
  connection: Connection,
  { name, tenantId, object, path }: {
    name: string;
    tenantId: string | undefined;
    object: MediaObject;
    path: string;
  },
  { progress, signal }: Pick<CommandDependencies, "progress" | "signal">,
): Promise<void> {
  const { url } = await postToApi<{ url: string }>(
    connection,
    `media/${asPath(name)}/url`,
    { expires_in: ADDRESS_SECONDS },
    { query: { tenant_id: tenantId }, signal },
  );
  const { host } = new URL(url);
  // No credential: the address is one.
  const ask = (address: string | URL) =>
    connection.fetch(address, { signal, redirect: "manual" }).catch((thrown: unknown) => {
      if (signal.aborted) throw thrown;
      throw unreachable(`${host} does not answer (${thrown instanceof Error ? thrown.message : thrown}).`);
    });
  let response = await ask(url);
  const movedTo = response.headers.get("location");
  if (movedTo !== null && response.status >= 300 && response.status < 400) {
    // The file has moved to S3 a moment ago. Once: S3 sends nobody on.
    await response.body?.cancel();
    response = await ask(new URL(movedTo, url));
  }
  if (!response.ok) {
    await response.body?.cancel();
    throw new CliFailure(`${host} answered ${response.status}.`);
  }
  const partial = `${path}.part`;
  const hash = createHash("sha256");
  const show = progressBar(
    progress,
    `Fetching ${name.split("/").at(-1)}`,
    object.size_bytes ?? object.stored_bytes,
  );
  let done = 0;
  try {
    const file = await Deno.open(partial, { write: true, create: true, truncate: true });
    const counted = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
      transform(piece, controller) {
        hash.update(piece);
        show(done += piece.byteLength);
        controller.enqueue(piece);
      },
    });
    await (response.body ?? new Blob([]).stream()).pipeThrough(counted).pipeTo(file.writable, { signal });
    if (hash.digest("hex") !== object.sha256) {
      throw new CliFailure(`What came is not the file with the hash ${object.sha256}. Try again.`);
    }
    await Deno.rename(partial, path);
  } catch (thrown) {
    await Deno.remove(partial).catch(() => {});
    if (thrown instanceof CliFailure || signal.aborted) throw thrown;
    throw new CliFailure(
      `${name} could not be fetched to ${path}: ${thrown instanceof Error ? thrown.message : thrown}`,
    );
  }
}

/** A name for the file here: the last part of a key, or the hash's beginning with the end of the storage key. */
export function nameForFile(name: string, object: MediaObject): string {
  const last = name.split(/[/\\]/).at(-1) ?? "";
  if (name !== object.sha256 && last !== "" && !last.startsWith(".")) return last;
  const extension = /\.[a-z0-9]{1,10}$/.exec(object.s3_key ?? "")?.[0] ?? "";
  return `${object.sha256.slice(0, 16)}${extension}`;
}
