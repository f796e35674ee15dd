import type { Actor } from "../contract/actor.ts";
import { type Answer, partsOf, type Prompt } from "../contract/content.ts";
import type { GatewayEvent } from "../contract/events.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import type { GatewayResult } from "../contract/result.ts";
import type { Chats, Message, NewMessage } from "../database/chats.ts";
import type { Background } from "../runtime/background.ts";
import type { Log } from "../runtime/log.ts";
import { historyOf, joined, messageFrom } from "./history.ts";

/** Names the consumer that is charged for signed-in users who ask in chats of theirs. */
export const CHATS_CONSUMER_VARIABLE = "EVE_CHATS_CONSUMER";

/** Tokens of earlier messages that go along unless a call says otherwise: room for an answer on the smallest of Google's free lanes. */
export const DEFAULT_HISTORY_TOKENS = 8_000;

/** A message holds a million bytes, and a character has up to three. */
const MAX_CHARS = 300_000;

export interface AnsweringOptions {
  chats: Pick<Chats, "beginAnswer" | "endAnswer">;
  /** Of a prompt's input tokens. */
  estimate: (prompt: Prompt) => number;
  /** The consumer that is charged for signed-in users, by name; null: they get no answers. */
  payer: string | null;
  background: Background;
  log: Log;
}

/** What is asked in which chat. */
export interface ChatQuestion {
  actor: Actor;
  chatId: string;
  message: Pick<NewMessage, "client_id" | "parent_id" | "edits" | "message_type">;
  historyTokens: number;
}

/** A question that stands in its chat, and the place of its answer. */
export interface BegunAnswer {
  status: "begun";
  question: Message;
  answer: Message;
  /** The history, then the question. */
  prompt: Prompt;
  /** Who is charged; null: the project. */
  consumerId: string | null;
  /** Stores a whole answer, behind the response. What is none (blocked, empty) is stored as broken off. */
  ended(result: GatewayResult): void;
  /** The call has failed: nothing came of it. */
  failed(): void;
  /** The same events. What has come when they end, however they do, is stored. */
  watched(events: AsyncIterable<GatewayEvent>): AsyncIterable<GatewayEvent>;
}

export interface Answering {
  /**
   * `present`: the question was asked and answered before, under its `client_id`.
   * @param prompt one turn: what the user says now, with the call's settings
   * @throws GatewayError `invalid_request`, and as `Chats.beginAnswer`
   */
  begin(
    question: ChatQuestion,
    prompt: Prompt,
    requestId: string,
  ): Promise<BegunAnswer | { status: "present"; question: Message; answer: Message }>;
}

/**
 * Answers in a chat: the history comes out of the database, and question and answer go into it. The question and the place of its answer
 * are stored before a model is asked, so that both stand in their order whatever happens; the answer's text when it has ended.
 */
export function createAnswering(
  { chats, estimate, payer, background, log }: AnsweringOptions,
): Answering {
  function end(messageId: string, state: "complete" | "broken_off", answer: Answer, usage: unknown): void {
    const { content, parts } = messageFrom(partsOf(answer));
    background(
      chats.endAnswer(messageId, { state, content: content.slice(0, MAX_CHARS), parts, usage })
        .catch((thrown) =>
          log("error", "chat_answer_lost", { message_id: messageId, detail: String(thrown) })
        ),
    );
  }

  return {
    async begin({ actor, chatId, message, historyTokens }, prompt, requestId) {
      const [turn, ...more] = prompt.contents;
      if (turn === undefined || more.length > 0 || (turn.role ?? "user") !== "user") {
        throw new GatewayError("invalid_request", {
          message:
            "In a chat the history comes from the database: send what the user says now, as one message, and nothing else.",
        });
      }
      const asked = messageFrom(turn.parts ?? []);
      if (asked.content.length > MAX_CHARS) {
        throw new GatewayError("invalid_request", {
          message:
            `A message of a chat has at most ${MAX_CHARS} characters. Send less, or ask outside of the chat.`,
        });
      }
      const begun = await chats.beginAnswer(
        actor,
        chatId,
        {
          ...message,
          role: "user",
          content: asked.content,
          ...(asked.parts !== null && { parts: asked.parts }),
          request_id: requestId,
        },
        requestId,
        payer,
      );
      if (begun.status === "present") return begun;
      const { question, answer } = begun;
      const { system, turns } = historyOf(begun.history, historyTokens, estimate);
      const systemParts = [...prompt.systemInstruction?.parts ?? [], ...system];
      return {
        status: "begun",
        question,
        answer,
        consumerId: begun.consumer_id,
        prompt: {
          ...prompt,
          contents: joined([...turns, { ...turn, role: "user" }]),
          ...(systemParts.length > 0 && { systemInstruction: { parts: systemParts } }),
        },
        ended: (result) =>
          end(answer.id, result.verdict.ok ? "complete" : "broken_off", result.answer, usageOf(result)),
        failed: () => end(answer.id, "broken_off", {}, null),
        async *watched(events) {
          const parts: ReturnType<typeof partsOf> = [];
          let result: GatewayResult | null = null;
          try {
            for await (const event of events) {
              if (event.type === "delta") parts.push(...partsOf(event.chunk));
              if (event.type === "done") result = event.result;
              yield event;
            }
          } finally {
            const said = { candidates: [{ content: { parts } }] };
            if (result === null) end(answer.id, "broken_off", said, null);
            else end(answer.id, result.verdict.ok ? "complete" : "broken_off", said, usageOf(result));
          }
        },
      };
    },
  };
}

/** As a message keeps it. */
function usageOf({ model, usage }: GatewayResult) {
  return {
    model,
    input_tokens: usage.inputTokens,
    output_tokens: usage.outputTokens,
    thoughts_tokens: usage.thoughtsTokens,
    cached_tokens: usage.cachedTokens,
    total_tokens: usage.totalTokens,
    estimated: usage.estimated,
  };
}
