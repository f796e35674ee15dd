/**
 * Secrets of keys that the local stack's user has set with `keys set`: variables that the stack gives to its functions from its
 * next start on. The file stands in the stack's folder, readable by its owner alone, and goes with the folder.
 */
import { z } from "zod";

const FILE = "key_secrets.json";
const shape = z.record(z.string(), z.string());

export const storedSecretsFile = (dataDir: string): string => `${dataDir}/${FILE}`;

/** By the name of the variable. A file that was spoilt is none. */
export function storedSecrets(dataDir: string): Record<string, string> {
  try {
    return shape.parse(JSON.parse(Deno.readTextFileSync(storedSecretsFile(dataDir))));
  } catch {
    return {};
  }
}

/** @throws as writing a file does */
export function keepSecret(dataDir: string, name: string, secret: string): void {
  write(dataDir, { ...storedSecrets(dataDir), [name]: secret });
}

/** False: there was none. */
export function forgetSecret(dataDir: string, name: string): boolean {
  const { [name]: gone, ...others } = storedSecrets(dataDir);
  if (gone === undefined) return false;
  write(dataDir, others);
  return true;
}

/** Under another name first: a reader never sees half a file. */
function write(dataDir: string, secrets: Record<string, string>): void {
  const path = storedSecretsFile(dataDir);
  const text = `${JSON.stringify(secrets, undefined, 2)}\n`;
  Deno.writeTextFileSync(`${path}.new`, text, { mode: 0o600 });
  Deno.renameSync(`${path}.new`, path);
}
