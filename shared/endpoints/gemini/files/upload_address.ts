import { jwtVerify, SignJWT } from "jose";
import * as z from "zod";
import type { Caller } from "../../../contract/caller.ts";
import { GatewayError } from "../../../contract/gateway_error.ts";

/** Who holds such an address may send that one file, in the name of the caller who began its upload: it goes into no log. */
export interface UploadAddresses {
  sign(begun: BegunUpload): Promise<string>;
  /** Null: it is no such address. @throws GatewayError `credential_invalid`: not signed by us, or its time is over */
  verify(url: string): Promise<BegunUpload | null>;
}

/** All that is known of an upload until its bytes come: nothing is written down before. */
export interface BegunUpload {
  caller: Caller;
  file: AnnouncedUpload;
}

export interface AnnouncedUpload {
  /** Of the file that it becomes. */
  id: string;
  filename: string;
  mimeType: string;
  sizeBytes: number;
}

export interface UploadAddressOptions {
  /** Where the function is reached, without a slash at its end. */
  functionUrl: string;
  secret: string;
  /** Milliseconds since 1970. */
  now: () => number;
}

/** A client sends the file at once; a slow line needs some minutes for 8 MiB. */
const ADDRESS_SECONDS = 3_600;
/** In the query, where Google has its own. */
const PARAMETER = "upload_id";
const TYPE = "eve-upload+jwt";
const ALGORITHM = "HS256";

const claims = z.object({
  caller: z.object({
    kind: z.enum(["project", "service", "notebook"]),
    consumerId: z.string().nullable(),
    tokenId: z.string().nullable(),
    name: z.string(),
  }),
  file: z.object({ id: z.string(), filename: z.string(), mimeType: z.string(), sizeBytes: z.number() }),
});

/** Addresses signed by HMAC-SHA-256 with the project's secret key. */
export function createUploadAddresses({ functionUrl, secret, now }: UploadAddressOptions): UploadAddresses {
  const key = new TextEncoder().encode(secret);
  return {
    async sign(begun) {
      const signed = await new SignJWT({ ...begun })
        .setProtectedHeader({ alg: ALGORITHM, typ: TYPE })
        .setExpirationTime(Math.floor(now() / 1_000) + ADDRESS_SECONDS)
        .sign(key);
      return `${functionUrl}/upload/v1beta/files?upload_protocol=resumable&${PARAMETER}=${signed}`;
    },
    async verify(url) {
      const signed = new URL(url).searchParams.get(PARAMETER);
      if (signed === null) return null;
      try {
        const { payload } = await jwtVerify(signed, key, {
          algorithms: [ALGORITHM],
          typ: TYPE,
          requiredClaims: ["exp"],
          currentDate: new Date(now()),
        });
        return claims.parse(payload);
      } catch {
        throw new GatewayError("credential_invalid", {
          message: "This upload address is not valid, or its time is over. Begin the upload again.",
        });
      }
    },
  };
}
