import { type Clock, setTimer } from "../runtime/clock.ts";
import { joinBytes } from "../runtime/join_bytes.ts";
import { GatewayError } from "../contract/gateway_error.ts";

/** How long a body may take to arrive: 10 MiB in 30 s is 2.8 Mbit/s. */
export const BODY_TIMEOUT_MS = 30_000;

/** Above this the caller is confirmed before the body is read: prompts without pictures are smaller. */
export const LARGE_BODY_BYTES = 256 * 1024;

export interface BodyLimits {
  maxBytes: number;
  /** From the first byte to the last. */
  timeoutMs: number;
  clock: Clock;
  /** Called with the number of bytes before memory is taken for them: once for all where the number is known. May throw. */
  onBytes?: ((count: number) => void) | undefined;
  /** Shown each piece as it arrives; may throw. */
  onPiece?: ((piece: Uint8Array) => void) | undefined;
  /** Asked once, before more than `LARGE_BODY_BYTES` are read; may throw. */
  onLarge?: (() => Promise<void>) | undefined;
}

/**
 * Reads a request's body, at most `maxBytes` of it: what is counted is what arrives, whatever `content-length` claims.
 * @throws GatewayError `body_too_large`, `body_timeout`, what `onBytes`, `onPiece` and `onLarge` throw
 */
export async function readBody(request: Request, limits: BodyLimits): Promise<Uint8Array> {
  const { maxBytes, onBytes, onPiece, onLarge } = limits;
  const claimed = Number(request.headers.get("content-length") ?? 0);
  const announced = Number.isSafeInteger(claimed) && claimed > 0 ? claimed : 0;
  // A truthful length saves reading what would be refused anyway.
  if (announced > maxBytes) throw tooLarge(maxBytes);
  const known = isOfKnownLength(request);
  if (known && announced <= LARGE_BODY_BYTES) {
    onBytes?.(announced);
    const body = await inTime(readWhole(request, maxBytes), limits);
    onPiece?.(body);
    return body;
  }
  if (request.body === null) return new Uint8Array();
  const asksFirst = announced > LARGE_BODY_BYTES;
  if (asksFirst) await onLarge?.();
  if (known) onBytes?.(announced);

  const reader = request.body.getReader();
  try {
    return await inTime(
      known
        ? readAnnounced(reader, announced, limits)
        : readCapped(reader, { maxBytes, onBytes, onPiece, onLarge: asksFirst ? undefined : onLarge }),
      limits,
    );
  } catch (error) {
    reader.cancel(error).catch(() => {}); // The connection may be gone already.
    throw error;
  }
}

async function inTime(body: Promise<Uint8Array>, { clock, timeoutMs }: BodyLimits): Promise<Uint8Array> {
  const arrived = Promise.withResolvers<Uint8Array>();
  const clearTimer = setTimer(
    clock,
    timeoutMs,
    () => arrived.reject(new GatewayError("body_timeout", { details: { timeout_ms: timeoutMs } })),
  );
  body.then(arrived.resolve, arrived.reject);
  try {
    return await arrived.promise;
  } finally {
    clearTimer();
  }
}

/**
 * Whether the server delimits the body by its length (RFC 9112, 6.3) and so hands out no more than that. Such a body is
 * read in one piece if it is small, at a third of the cost of reading it as a stream. Beside a transfer coding the length means nothing.
 */
function isOfKnownLength({ headers }: Request): boolean {
  return headers.has("content-length") && !headers.has("transfer-encoding");
}

async function readWhole(request: Request, maxBytes: number): Promise<Uint8Array> {
  const body = new Uint8Array(await request.arrayBuffer());
  if (body.byteLength > maxBytes) throw tooLarge(maxBytes);
  return body;
}

/** Into one buffer allocated beforehand: pieces that are joined at the end would take the memory twice. */
async function readAnnounced(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  announced: number,
  { maxBytes, onPiece }: BodyLimits,
): Promise<Uint8Array> {
  const body = new Uint8Array(announced);
  let length = 0;
  while (true) {
    const { done, value } = await reader.read();
    if (done) return length === announced ? body : body.subarray(0, length);
    if (length + value.byteLength > announced) throw tooLarge(maxBytes);
    onPiece?.(value);
    body.set(value, length);
    length += value.byteLength;
  }
}

async function readCapped(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  { maxBytes, onBytes, onPiece, onLarge }: Pick<BodyLimits, "maxBytes" | "onBytes" | "onPiece" | "onLarge">,
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  let asked = false;
  while (true) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.byteLength;
    if (length > maxBytes) throw tooLarge(maxBytes);
    onBytes?.(value.byteLength);
    onPiece?.(value);
    chunks.push(value);
    if (length > LARGE_BODY_BYTES && !asked) {
      asked = true;
      await onLarge?.();
    }
  }
  const [only] = chunks;
  return chunks.length === 1 && only !== undefined ? only : joinBytes(chunks);
}

function tooLarge(maxBytes: number): GatewayError {
  return new GatewayError("body_too_large", {
    message: `The body is larger than ${maxBytes} bytes. Send less, for example smaller images.`,
    details: { max_bytes: maxBytes },
  });
}
