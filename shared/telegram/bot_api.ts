import * as z from "zod";
import { GatewayError } from "../contract/gateway_error.ts";
import { BodyTooLong, bytesOf } from "../providers/bounded_body.ts";
import { redact } from "../providers/redact.ts";
import { type Clock, setTimer } from "../runtime/clock.ts";
import type { TelegramSettings } from "./settings.ts";

/** What a bot can download. https://core.telegram.org/bots/api#getfile */
export const MAX_FILE_BYTES = 20_000_000;

const ANSWER_TIMEOUT_MS = 15_000;
/** 20 MB at 4 Mbit/s. */
const DOWNLOAD_TIMEOUT_MS = 45_000;
const MAX_ANSWER_BYTES = 256 * 1024;
const MAX_SAID_CHARS = 300;

const answer = z.object({
  ok: z.boolean(),
  result: z.unknown().optional(),
  error_code: z.number().optional(),
  description: z.string().optional(),
  parameters: z.object({ retry_after: z.number().optional() }).nullish(),
});
const file = z.object({ file_path: z.string().optional(), file_size: z.number().optional() });

export interface BotApiOptions extends TelegramSettings {
  fetch: typeof fetch;
  clock: Clock;
}

/** Telegram's Bot API. Everything that it throws is a GatewayError that names no address: the token is a part of each. */
export interface BotApi {
  /** @throws GatewayError `telegram_unavailable`, `telegram_refused` with Telegram's own words and its `error_code` in `details` */
  call<Shape extends z.ZodType>(
    method: string,
    parameters: Record<string, unknown>,
    shape: Shape,
    signal: AbortSignal,
  ): Promise<z.output<Shape>>;
  /**
   * A file's bytes, 20 MB at most.
   * @throws GatewayError `file_too_large`, and as `call`
   */
  download(fileId: string, signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
}

export function createBotApi({ token, baseUrl, fetch, clock }: BotApiOptions): BotApi {
  async function call<Shape extends z.ZodType>(
    method: string,
    parameters: Record<string, unknown>,
    shape: Shape,
    signal: AbortSignal,
  ): Promise<z.output<Shape>> {
    const { status, bytes } = await request(`bot${token}/${method}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(parameters),
    }, { timeoutMs: ANSWER_TIMEOUT_MS, maxBytes: MAX_ANSWER_BYTES, signal });
    const said = answer.safeParse(parsed(bytes));
    if (!said.success) {
      throw unavailable(`${method}: status ${status}, and an answer that is none of Telegram's`);
    }
    if (!said.data.ok) throw refusal(method, status, said.data);
    const result = shape.safeParse(said.data.result);
    if (!result.success) throw unavailable(`${method}: a result of another shape`);
    return result.data;
  }

  async function request(
    path: string,
    init: RequestInit,
    { timeoutMs, maxBytes, signal }: { timeoutMs: number; maxBytes: number; signal: AbortSignal },
  ): Promise<{ status: number; bytes: Uint8Array<ArrayBuffer> }> {
    const timeout = new AbortController();
    const clearTimer = setTimer(clock, timeoutMs, () => timeout.abort());
    try {
      const response = await fetch(`${baseUrl}/${path}`, {
        ...init,
        redirect: "manual",
        signal: AbortSignal.any([signal, timeout.signal]),
      });
      return { status: response.status, bytes: await bytesOf(response, maxBytes) };
    } catch (thrown) {
      signal.throwIfAborted();
      if (thrown instanceof BodyTooLong) throw tooLarge(null);
      // What was thrown names the address, and with it the token.
      throw unavailable(
        timeout.signal.aborted
          ? `no answer within ${timeoutMs / 1000} s`
          : "it could not be reached, or broke off",
      );
    } finally {
      clearTimer();
    }
  }

  function refusal(method: string, status: number, said: z.output<typeof answer>): GatewayError {
    const code = said.error_code ?? status;
    const words = redact(`${said.description ?? "no reason given"}`, token).slice(0, MAX_SAID_CHARS);
    const retryAfter = said.parameters?.retry_after;
    if (code === 429 || code >= 500) {
      return unavailable(`${method}: ${code} ${words}`, retryAfter === undefined ? null : retryAfter * 1000);
    }
    return new GatewayError("telegram_refused", {
      message: `Telegram refused ${method}: ${words}`,
      details: { error_code: code },
    });
  }

  return {
    call,
    async download(fileId, signal) {
      let found: z.output<typeof file>;
      try {
        found = await call("getFile", { file_id: fileId }, file, signal);
      } catch (thrown) {
        // It says so in words alone.
        if (thrown instanceof GatewayError && /file is too big/i.test(thrown.publicMessage)) {
          throw tooLarge(null);
        }
        throw thrown;
      }
      if (found.file_size !== undefined && found.file_size > MAX_FILE_BYTES) throw tooLarge(found.file_size);
      const path = (found.file_path ?? "").split("/");
      if (path.some((part) => part === "" || part === "." || part === "..")) {
        throw unavailable("getFile: a path that leads to no file");
      }
      const { status, bytes } = await request(
        `file/bot${token}/${path.map(encodeURIComponent).join("/")}`,
        { method: "GET" },
        { timeoutMs: DOWNLOAD_TIMEOUT_MS, maxBytes: MAX_FILE_BYTES, signal },
      );
      if (status !== 200) throw unavailable(`a file: status ${status}`);
      if (found.file_size !== undefined && bytes.byteLength !== found.file_size) {
        throw unavailable("a file: another length than was announced");
      }
      return bytes;
    },
  };
}

function parsed(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}

function unavailable(detail: string, retryAfterMs: number | null = null): GatewayError {
  return new GatewayError("telegram_unavailable", { detail: `telegram: ${detail}`, retryAfterMs });
}

function tooLarge(sizeBytes: number | null): GatewayError {
  return new GatewayError("file_too_large", {
    message: `Telegram gives a bot files of ${MAX_FILE_BYTES / 1_000_000} MB at most.`,
    details: { limit_bytes: MAX_FILE_BYTES, ...(sizeBytes !== null && { size_bytes: sizeBytes }) },
  });
}
