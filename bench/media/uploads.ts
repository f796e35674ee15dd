import { AwsClient } from "aws4fetch";
import { withStack } from "../with_stack.ts";
import { sha256Of } from "../../shared/media/hash.ts";
import { startRadosgw } from "../../tests/harness/radosgw.ts";
import { HAS_RADOSGW } from "../../tests/harness/stores.ts";
import { median, percentile } from "../statistics.ts";

export interface Uploads {
  files: number;
  file_bytes: number;
  /**
   * From the first question to the verification's answer, asked at the function's own address as in bench:gateway: what proxies a
   * hosted project has in front of its functions is not the gateway's.
   */
  by_the_gateway_p50_ms: number;
  by_the_gateway_p99_ms: number;
  /** The same through the local stack's reverse proxy, which runs in this bench's own process. */
  by_the_origin_p50_ms: number;
  /** The same PUT with a signature of the owner's own. */
  straight_p50_ms: number;
  straight_p99_ms: number;
  ms_more: number;
  /** Of these: two requests to the function that do nothing, at the median. */
  two_empty_requests_ms: number;
}

const FILE_BYTES = 100_000;
const WARM_UP = 5;

/** Uploads to a radosgw of this machine, one after another and in turns; null where there is none. */
export async function uploads(quick: boolean, say: (line: string) => void): Promise<Uploads | null> {
  if (!HAS_RADOSGW) {
    say("upload: left out, there is no store on this machine (tests/storage/install puts one there)");
    return null;
  }
  const files = quick ? 40 : 200;
  const store = await startRadosgw();
  try {
    const settings = await store.newBucket();
    const { accessKeyId, secretAccessKey, region, endpoint, bucket } = settings;
    const options = {
      schedule: false,
      env: {
        EVE_LEDGER_TRANSPORT: "direct",
        S3_ENDPOINT_URL: endpoint,
        S3_BUCKET_NAME: bucket,
        S3_REGION: region,
        S3_ACCESS_KEY_ID: accessKeyId,
        S3_SECRET_ACCESS_KEY: secretAccessKey,
      },
    };
    return await withStack(options, async (stack) => {
      const owner = new AwsClient({ accessKeyId, secretAccessKey, region, service: "s3", retries: 0 });
      const origin = `${stack.url}/functions/v1/api`;
      const own = `${stack.functions.get("api")!.url}/api`;
      const ask = async (at: string, path: string, body: unknown) => {
        const response = await fetch(`${at}/v1/media/${path}`, {
          method: "POST",
          headers: { apikey: stack.keys.secret, "content-type": "application/json" },
          body: JSON.stringify(body),
        });
        const answer = await response.json();
        if (!response.ok) throw new Error(`${path}: ${JSON.stringify(answer)}`);
        return answer;
      };
      const uploadBy = (at: string) => async (body: Uint8Array<ArrayBuffer>) => {
        const file = { tenant_id: "default", sha256: await sha256Of(body) };
        const { upload, verify } = await ask(at, "uploads", {
          ...file,
          size_bytes: body.byteLength,
          content_type: "application/octet-stream",
          kind: "media",
        });
        const put = await fetch(upload.url, { method: "PUT", headers: upload.headers, body });
        await put.body?.cancel();
        if (!put.ok) throw new Error(`the store answered ${put.status}`);
        await ask(at, `uploads/${file.sha256}/verify`, verify.body);
      };
      let number = 0;
      const straight = async (body: Uint8Array<ArrayBuffer>) => {
        const put = await owner.fetch(`${endpoint}/${bucket}/straight/${number++}`, {
          method: "PUT",
          headers: {
            "x-amz-content-sha256": await sha256Of(body),
            "content-type": "application/octet-stream",
          },
          body,
        });
        await put.body?.cancel();
        if (!put.ok) throw new Error(`the store answered ${put.status}`);
      };
      const nothing = async () => {
        const answer = await fetch(`${own}/v1/media/uploads`, { method: "OPTIONS" });
        await answer.body?.cancel();
        if (!answer.ok) throw new Error(`OPTIONS: ${answer.status}`);
      };
      const ways = { gateway: uploadBy(own), origin: uploadBy(origin), straight, nothing };
      const took: Record<keyof typeof ways, number[]> = {
        gateway: [],
        origin: [],
        straight: [],
        nothing: [],
      };
      for (let file = 0; file < WARM_UP + files; file++) {
        for (const way of ["gateway", "straight", "origin", "nothing"] as const) {
          // A file that is there already would not be sent.
          const body = new Uint8Array(FILE_BYTES);
          crypto.getRandomValues(body.subarray(0, 65_536));
          const since = performance.now();
          await ways[way](body);
          if (file >= WARM_UP) took[way].push(performance.now() - since);
        }
      }
      const round = (ms: number) => Math.round(ms * 100) / 100;
      const result = {
        files,
        file_bytes: FILE_BYTES,
        by_the_gateway_p50_ms: round(median(took.gateway)),
        by_the_gateway_p99_ms: round(percentile(took.gateway, 0.99)),
        by_the_origin_p50_ms: round(median(took.origin)),
        straight_p50_ms: round(median(took.straight)),
        straight_p99_ms: round(percentile(took.straight, 0.99)),
        ms_more: round(median(took.gateway) - median(took.straight)),
        two_empty_requests_ms: round(2 * median(took.nothing)),
      };
      say(`upload: ${JSON.stringify(result)}`);
      return result;
    });
  } finally {
    await store.stop();
  }
}
