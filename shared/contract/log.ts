/** One line of the function's log. Fields hold no secret and nothing that a user wrote. */
export type Log = (level: "info" | "warn" | "error", event: string, fields: Record<string, unknown>) => void;

/** Writes JSON lines to the console, which is where hosted functions keep their log. */
export const consoleLog: Log = (level, event, fields) => {
  console[level](JSON.stringify({ event, ...fields }));
};
