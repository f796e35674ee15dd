import { type Attachments, type OnLeftBehind, openFiles, uploadsOf } from "./files.ts";
import { gigachatBody } from "./request.ts";
import { GIGACHAT_AUTH_URL, GIGACHAT_SCOPE, tokenStore } from "./token.ts";
import { judgedAnswer } from "../judged_answer.ts";
import type { KeyInquiry, KeyInspector } from "../key_inspector.ts";
import { baseUrlOf, jsonFromUpstream, type UpstreamCall, upstreamModel } from "../upstream.ts";
import { answerOfCompletion } from "../openai/answer.ts";
import { OPENAI_ERROR_MAPPING } from "../openai/errors.ts";
import { modelsIn } from "../openai/models.ts";
import { readCompletionStream } from "../openai/stream.ts";
import { type ProviderCall, ProviderFailure, type ProviderOf } from "../provider.ts";

export const GIGACHAT_BASE_URL = "https://gigachat.devices.sberbank.ru/api/v1";

export interface GigachatOptions {
  baseUrl?: string;
  authUrl?: string;
  scope?: string;
  /** Must trust the root certificate that GigaChat's servers use, which is in no browser's store. */
  fetch?: typeof fetch;
  now?: () => number;
  newId?: () => string;
  /** Told of uploaded pictures that could not be deleted. */
  onLeftBehind?: OnLeftBehind;
}

/**
 * Sber's GigaChat. Pictures of a prompt are uploaded before its call and deleted after it. The key is the authorisation key of a project; calls go with an access token, fetched with it once and
 * shared until shortly before it ends.
 */
export function gigachatProvider(options: GigachatOptions = {}): ProviderOf<"text"> & KeyInspector {
  const request = options.fetch ?? fetch;
  const newId = options.newId ?? (() => crypto.randomUUID());
  const onLeftBehind = options.onLeftBehind ?? (() => {});
  const tokens = tokenStore({ fetch: request, now: options.now });

  /** Makes a call with a token, and once more with a new one if that was refused: it may have been revoked. */
  async function withToken<Value>(
    { secret, settings, signal }: KeyInquiry,
    path: string,
    body: unknown,
    send: (call: UpstreamCall) => Promise<Value>,
  ): Promise<Value> {
    const key = {
      credentials: secret,
      scope: settings?.scope ?? options.scope ?? GIGACHAT_SCOPE,
      authUrl: settings?.auth_url ?? options.authUrl ?? GIGACHAT_AUTH_URL,
    };
    const base = baseUrlOf(settings, options.baseUrl, GIGACHAT_BASE_URL);
    for (let again = true;; again = false) {
      const token = await tokens.token({ ...key, signal });
      try {
        return await send({
          url: `${base}${path}`,
          headers: { authorization: `Bearer ${token}` },
          body,
          secret: token,
          signal,
          fetch: request,
          errorMapping: OPENAI_ERROR_MAPPING,
        });
      } catch (thrown) {
        if (!again || !(thrown instanceof ProviderFailure) || thrown.upstreamStatus !== 401) throw thrown;
        tokens.forget(key, token);
      }
    }
  }

  const bodyOf = ({ prompt, model }: ProviderCall, attachments: Attachments) =>
    gigachatBody(prompt, upstreamModel(model, "gigachat"), attachments);

  const filesOf = ({ secret, settings }: ProviderCall) =>
    openFiles({
      send: (path, body, signal) => withToken({ secret, settings, signal }, path, body, jsonFromUpstream),
    }, onLeftBehind);

  return {
    name: "GigaChat",
    text: {
      async generate(call) {
        const uploads = uploadsOf(call.prompt, newId);
        const files = filesOf(call);
        try {
          const body = bodyOf(call, await files.upload(uploads, call.signal));
          const answer = await withToken(call, "/chat/completions", body, jsonFromUpstream);
          return judgedAnswer(answerOfCompletion(answer));
        } finally {
          await files.deleteAll();
        }
      },
      async *stream(call) {
        const uploads = uploadsOf(call.prompt, newId);
        const files = filesOf(call);
        try {
          const body = { ...bodyOf(call, await files.upload(uploads, call.signal)), stream: true };
          // The first piece shows whether the token was accepted; what follows is the stream itself.
          const { pieces, first } = await withToken(call, "/chat/completions", body, async (upstream) => {
            const pieces = readCompletionStream(upstream);
            return { pieces, first: await pieces.next() };
          });
          try {
            let step = first;
            while (!step.done) {
              yield step.value;
              step = await pieces.next();
            }
            return step.value;
          } finally {
            await pieces.return(undefined as never).catch(() => {});
          }
        } finally {
          await files.deleteAll();
        }
      },
    },
    async listModels(inquiry) {
      const body = await withToken(inquiry, "/models", undefined, jsonFromUpstream);
      return modelsIn(body, inquiry);
    },
    async checkKey(inquiry) {
      await withToken(inquiry, "/models", undefined, jsonFromUpstream);
    },
  };
}
