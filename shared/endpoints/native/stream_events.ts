/**
 * The data of each event in the native endpoint's stream, by the event's name. Types alone: the console shares them. Other names
 * may be added, and clients ignore those that they do not know.
 */
export interface StreamEvents {
  /** The call is a question in a chat: the messages that were stored. */
  chat: { chat_id: string; question_id: string; answer_id: string };
  /** The call waits for its start. */
  queued: { attempt: number; model: string; wait_ms: number; expected_start: string };
  started: {
    attempt: number;
    model: string;
    key_alias: string;
    /** Only where it is lower than what was asked for. */
    max_output_tokens?: number;
    limits: unknown;
  };
  delta: { text: string; parts: unknown[] };
  usage: { input_tokens: number; output_tokens: number | null; estimated: boolean };
  done: {
    request_id: string;
    model: string;
    key_alias: string;
    attempts: number;
    wait_ms: number;
    limits: unknown;
    replayed: boolean;
  };
  error: { code: string; message: string; request_id: string; retryable: boolean };
}
