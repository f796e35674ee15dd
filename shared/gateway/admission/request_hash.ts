import type { GatewayRequest } from "../../contract/request.ts";

/** SHA-256 of what a request asks for, in hexadecimal: equal for repetitions, different for another prompt or model. */
export async function requestHash(request: GatewayRequest): Promise<string> {
  const asked = new TextEncoder().encode(JSON.stringify([request.models, request.prompt]));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", asked));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
