/** The stores of `tests/storage/install`. Tests skip without them; without radosgw never in CI. */
import { AwsClient } from "aws4fetch";
import { CHECKOUT } from "../../local/paths.ts";
import type { S3Settings } from "../../shared/media/settings.ts";

export const STORES = `${CHECKOUT}/tests/storage/.stores`;

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

/** The root below which radosgw has been unpacked. */
export const RADOSGW = `${STORES}/radosgw`;
export const HAS_RADOSGW = exists(`${RADOSGW}/complete`);
/** Whether to skip what needs it. */
export const withoutRadosgw = !HAS_RADOSGW && !Deno.env.get("CI");

/** Versity's gateway, or null where it could not be built. */
export const VERSITYGW = (() => {
  try {
    const name = [...Deno.readDirSync(STORES)].find((entry) => entry.name.startsWith("versitygw-"))?.name;
    return name === undefined ? null : `${STORES}/${name}`;
  } catch {
    return null;
  }
})();

export interface TestStore {
  settings: S3Settings;
  /** Makes an empty bucket and answers the settings with its name. */
  newBucket(): Promise<S3Settings>;
  /** Ends it and removes its files. */
  stop(): Promise<void>;
}

/** An id with a colon, as Cloud.ru's: `<tenant_id>:<key_id>`. */
export const ACCESS_KEY_ID = "0b7ab4d5-8ee8-4d3c-9c5c-3b2d8a0c1f11:5f0c7e2b9a";
/** With the characters that signing code stumbles over. */
export const SECRET_ACCESS_KEY = "s3cr3t/of+the=owner";

export function bucketMaker(settings: S3Settings): () => Promise<S3Settings> {
  const { accessKeyId, secretAccessKey, region, endpoint } = settings;
  const client = new AwsClient({ accessKeyId, secretAccessKey, region, service: "s3", retries: 0 });
  let count = 0;
  return async () => {
    const bucket = `test-${++count}`;
    const response = await client.fetch(`${endpoint}/${bucket}`, { method: "PUT" });
    const text = await response.text();
    if (!response.ok) throw new Error(`no bucket: ${response.status} ${text}`);
    return { ...settings, bucket };
  };
}
