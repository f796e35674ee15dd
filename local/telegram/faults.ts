/** What goes wrong with a call of that kind. */
export interface TelegramFault {
  on: "getFile" | "download" | "setWebhook" | "getMe" | "sendMessage" | "deliver";
  how:
    /** 429 with retry_after. */
    | "rate_limited"
    /** 500, before anything is done. */
    | "broken"
    /** It is done, and the answer breaks off in the middle. */
    | "half_answer"
    /** Heads come, and that is all. */
    | "hangs"
    /** Of a delivery: it arrives, and its answer is lost, so that it comes again. */
    | "answer_lost";
  /** How many calls; absent: one. */
  times?: number;
}

export interface JournalEntry {
  what: string;
  status: number;
  /** Milliseconds since 1970. */
  at: number;
  body?: unknown;
}

/** Takes the next fault of its kind. */
export function nextFault(faults: TelegramFault[], on: string): TelegramFault["how"] | null {
  const place = faults.findIndex((fault) => fault.on === on);
  const fault = faults[place];
  if (fault === undefined) return null;
  fault.times = (fault.times ?? 1) - 1;
  if (fault.times <= 0) faults.splice(place, 1);
  return fault.how;
}
