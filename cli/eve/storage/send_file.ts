import { createReadStream } from "node:fs";
import { request as overHttp } from "node:http";
import { request as overHttps } from "node:https";
import { CliFailure, unreachable } from "../failure.ts";

export interface FileToSend {
  method: string;
  url: string;
  headers: Readonly<Record<string, string>>;
  path: string;
  /** Where what is sent begins in the file; absent: at its beginning. */
  offset?: number;
  /** How much is sent. */
  sizeBytes: number;
  signal: AbortSignal;
  /** How many bytes were handed over so far. */
  onBytes: (sent: number) => void;
}

/** An error says what it has to in far less. */
const MAX_ANSWER_BYTES = 64 * 1024;
/** A connection without a byte for so long is dead. */
const SILENCE_MS = 60_000;

/**
 * Sends a file, or a part of one, as a request's body, with its length: a store takes no body of unknown length, and Deno's `fetch` drops the length of a
 * stream (denoland/deno#20274). So this goes over node:http. No redirect is followed.
 * @throws CliFailure when nobody answers, or the file changes meanwhile
 */
export async function sendFile(file: FileToSend): Promise<Response> {
  const { method, path, offset = 0, sizeBytes, signal, onBytes } = file;
  const url = new URL(file.url);
  const send = url.protocol === "https:" ? overHttps : overHttp;
  const headers = { ...file.headers, "content-length": String(sizeBytes) };
  return await new Promise<Response>((resolve, reject) => {
    const fail = (error: Error) => {
      body.destroy();
      request.destroy();
      reject(error);
    };
    const request = send(url, { method, headers, signal, agent: false }, (answer) => {
      const pieces: Uint8Array<ArrayBuffer>[] = [];
      let size = 0;
      answer.on("data", (piece: Uint8Array<ArrayBuffer>) => {
        size += piece.byteLength;
        if (size <= MAX_ANSWER_BYTES) pieces.push(piece);
      });
      answer.on("error", fail);
      answer.on("end", () => {
        // An error may come before all is sent.
        body.destroy();
        resolve(new Response(size === 0 ? null : new Blob(pieces), { status: answer.statusCode ?? 502 }));
      });
    });
    // One byte more than announced would be sent as the next request's.
    const body = createReadStream(
      path,
      sizeBytes === 0 ? {} : { start: offset, end: offset + sizeBytes - 1 },
    );
    let sent = 0;
    body.on("data", (piece) => onBytes(sent += piece.length));
    body.on("end", () => {
      if (sent < sizeBytes) fail(new CliFailure(`${path} has become shorter while it was sent. Try again.`));
    });
    body.on("error", fail);
    request.setTimeout(
      SILENCE_MS,
      () => fail(unreachable(`${url.host} has not said anything for ${SILENCE_MS / 1_000} s. Try again.`)),
    );
    request.on("error", (error: Error) => {
      if (signal.aborted || error instanceof CliFailure) return fail(error);
      fail(unreachable(`${url.host} broke the connection off (${error.message}). Try again.`));
    });
    body.pipe(request);
  });
}
