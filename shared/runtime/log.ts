/**
 * One line of the function's log. Fields hold no secret and nothing that a user wrote; those that OpenTelemetry names carry
 * its names. What is undefined is left out.
 */
export type Log = (level: LogLevel, message: string, fields: Record<string, unknown>) => void;

export type LogLevel = "info" | "warn" | "error";

const ORDER: readonly string[] = ["info", "warn", "error"] satisfies LogLevel[];

/**
 * Writes JSON lines to the console, which is where hosted functions keep their log: `time` (ISO 8601, UTC), `level`,
 * `message`, then the fields.
 * @param least lines below this level are not written; absent or unknown: all are
 * @param shown makes a line what may be shown where it is written
 */
export function createLog(least?: string, shown = (line: string) => line): Log {
  const lowest = Math.max(0, ORDER.indexOf(least?.trim().toLowerCase() ?? "info"));
  return (level, message, fields) => {
    if (ORDER.indexOf(level) < lowest) return;
    console[level](shown(JSON.stringify({ time: new Date().toISOString(), level, message, ...fields })));
  };
}

export const consoleLog: Log = createLog();
