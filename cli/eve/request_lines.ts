/** Requests in lines and blocks, for people. */
import type { RequestDetail, RequestRow } from "../../shared/database/reading.ts";
import { bold, count, dim, duration, exactly, green, pairs, red, shortened, table, yellow } from "./table.ts";

export function stateOf({ state }: Pick<RequestRow, "state">): string {
  switch (state) {
    case "succeeded":
      return green(state);
    case "running":
      return state;
    case "cancelled":
    case "refused":
      return yellow(state);
    default:
      return red(state);
  }
}

/** Why it is not a success; empty where it is one. */
export function reasonOf(row: RequestRow): string {
  const limit = row.limit === null ? "" : ` (${row.limit})`;
  const again = row.retry_after_ms === null ? "" : `, again in ${duration(row.retry_after_ms)}`;
  return row.error_code === null ? "" : `${row.error_code}${limit}${again}`;
}

const tokens = (row: RequestRow) =>
  row.output_tokens === null && row.state !== "succeeded"
    ? ""
    : `${count(row.input_tokens, "?")} + ${count(row.output_tokens, "?")}${thinking(row)}`;

/** Thoughts are neither input nor answer, and are paid for all the same. */
function thinking({ input_tokens, output_tokens, total_tokens }: RequestRow): string {
  const thoughts = (total_tokens ?? 0) - (input_tokens ?? 0) - (output_tokens ?? 0);
  return input_tokens === null || output_tokens === null || thoughts <= 0
    ? ""
    : ` + ${count(thoughts)} thinking`;
}

const model = (row: RequestRow) =>
  row.model === row.requested_model ? row.model : `${row.model} for ${row.requested_model}`;

export function requestTable(rows: readonly RequestRow[]): string {
  return table(
    ["at", "no>", "state", "consumer", "model", "key", "tokens>", "waited>", "took>", "request id", "why"],
    rows.map((row) => [
      exactly(row.at).slice(0, 19),
      row.request_no === null ? "" : String(row.request_no),
      stateOf(row),
      row.consumer ?? "",
      model(row),
      row.key ?? "",
      tokens(row),
      row.wait_ms === 0 ? "" : duration(row.wait_ms),
      row.state === "refused" ? "" : duration(row.duration_ms),
      shortened(row.request_id, 36),
      reasonOf(row),
    ]),
  );
}

/** One line, as `tail` shows it when the request has ended. */
export function requestLine(row: RequestRow): string {
  const facts = [
    tokens(row) === "" ? "" : `${tokens(row)} tokens`,
    row.wait_ms === 0 ? "" : `waited ${duration(row.wait_ms)}`,
    row.state === "refused" ? "" : duration(row.duration_ms),
    row.attempts > 1 ? `${row.attempts} attempts` : "",
    reasonOf(row),
  ].filter((fact) => fact !== "");
  const place = row.key === null ? "" : ` by ${row.key}`;
  return [
    dim(exactly(row.finished_at ?? row.at).slice(11, 23)),
    stateOf(row),
    `${row.consumer} ${dim("→")} ${model(row)}${place}`,
    facts.join(", "),
    dim(row.request_no === null ? row.request_id : `#${row.request_no}`),
  ].join("  ");
}

/** Everything about one request. */
export function requestBlock(row: RequestDetail): string {
  const facts: [string, string][] = [
    [
      "request",
      row.request_no === null
        ? `id ${row.request_id}`
        : `${bold(String(row.request_no))}, id ${row.request_id}`,
    ],
    [
      "state",
      [stateOf(row), reasonOf(row), row.finish_reason ?? ""].filter((part) => part !== "").join(", "),
    ],
    [
      "from",
      [row.consumer, row.class, row.endpoint, row.token_id && `token ${row.token_id}`].filter(Boolean).join(
        ", ",
      ),
    ],
    ["model", model(row)],
    ["came", exactly(row.at)],
    ["ended", exactly(row.finished_at) || "not yet"],
    [
      "took",
      row.state === "refused"
        ? ""
        : `${duration(row.duration_ms)}, of which it waited ${duration(row.wait_ms)} for its slots`,
    ],
    ["tokens", tokens(row) === "" ? "" : `${tokens(row)}, ${count(row.total_tokens, "?")} in all`],
    ["trace", row.trace_id ?? ""],
    ["metadata", isEmpty(row.metadata) ? "" : JSON.stringify(row.metadata)],
    ["answer kept", row.answer_kept ? "yes: the same request_id gets it again" : ""],
  ];
  return [
    pairs(facts.filter(([, value]) => value !== "")),
    ...row.tries.map((one) => `${bold(`Attempt ${one.attempt}`)}\n${indented(pairs(attemptFacts(one)))}`),
    ...(row.running === null ? [] : [
      `${bold(`Attempt ${row.running.attempt} is under way`)}\n${
        indented(pairs([
          ["start", exactly(row.running.start_at)],
          ["lease until", exactly(row.running.lease_until)],
          ["input tokens booked", count(row.running.tokens_booked)],
        ]))
      }`,
    ]),
    ...(row.refusals.length === 0 ? [] : [
      `${bold(row.state === "refused" ? "Refused" : "Refused before")}\n${
        indented(
          table(
            ["at", "attempt", "why", "again after"],
            row.refusals.map((refusal) => [
              exactly(refusal.at),
              String(refusal.attempt),
              `${refusal.error_code}${refusal.limit === null ? "" : ` (${refusal.limit})`}`,
              duration(refusal.retry_after_ms),
            ]),
          ),
        )
      }`,
    ]),
    ...(row.capture === null ? [] : [
      `${bold("Prompt")}\n${indented(readable(row.capture.prompt))}`,
      `${bold("Answer")}\n${indented(readable(row.capture.answer))}`,
    ]),
  ].join("\n\n");
}

function attemptFacts(one: RequestDetail["tries"][number]): [string, string][] {
  const outcome = one.outcome === "succeeded" ? green(one.outcome) : red(one.outcome);
  const facts: [string, string][] = [
    ["outcome", [outcome, one.error_code, one.finish_reason].filter(Boolean).join(", ")],
    ["whose fault", one.fault === null ? "" : FAULT_WORDS[one.fault] ?? one.fault],
    ["said", one.error_detail ?? ""],
    ["key", `${one.key}${one.quota_project === null ? "" : ` of ${one.quota_project}`}, model ${one.model}`],
    ["waited", `${duration(one.wait_ms)}, started ${exactly(one.start_at)}`],
    [
      "upstream",
      one.dispatched
        ? [one.upstream_status ?? "no answer", duration(one.latency_ms)].filter((part) => part !== "").join(
          ", ",
        )
        : "was not called: the start was given back",
    ],
    [
      "tokens",
      one.input_tokens === null
        ? `${count(one.tokens_booked)} booked`
        : `${count(one.input_tokens)} in (${count(one.tokens_booked)} booked), ${
          count(one.output_tokens, "?")
        } out${one.thoughts_tokens ? `, ${count(one.thoughts_tokens)} thinking` : ""}${
          one.usage_estimated ? ", estimated" : ""
        }`,
    ],
  ];
  return facts.filter(([, value]) => value !== "");
}

const FAULT_WORDS: Readonly<Record<string, string>> = {
  key: "the key's: see keys show",
  key_model: "this key cannot serve this model",
  lane: "the quota's: upstream had less room than was counted",
  upstream: "upstream's, and passing",
  region: "the region's that the function runs in",
  model: "the model's: its answer is of no use",
  caller: "the caller's",
  gateway: "the gateway's",
};

interface Part {
  text?: string;
  thought?: boolean;
}
interface Turn {
  role?: string;
  parts?: Part[];
}

/** What was captured, as the conversation that it is; what is none of those that we know, as JSON. */
export function readable(value: unknown): string {
  if (value === null || value === undefined) return "nothing";
  if (typeof value === "string") return value;
  const { truncated, head, bytes, systemInstruction, contents, candidates } = value as {
    truncated?: boolean;
    head?: string;
    bytes?: number;
    systemInstruction?: Turn;
    contents?: Turn[];
    candidates?: { content?: Turn; finishReason?: string }[];
  };
  if (truncated === true) return `${head} …\n${dim(`(the head of ${count(bytes ?? null, "?")} bytes)`)}`;
  if (Array.isArray(contents)) {
    const system = systemInstruction === undefined ? [] : [{ ...systemInstruction, role: "system" }];
    return [...system, ...contents].map((turn) => `${dim(`${turn.role ?? "user"}:`)} ${textOf(turn)}`).join(
      "\n",
    );
  }
  if (Array.isArray(candidates)) {
    return candidates.map(({ content, finishReason }) =>
      `${textOf(content)}\n${dim(finishReason ?? "")}`.trimEnd()
    )
      .join("\n");
  }
  return JSON.stringify(value, undefined, 2);
}

/** Words as they are; thoughts, pictures and calls by what they are. */
function textOf(turn: Turn | undefined): string {
  const texts = (turn?.parts ?? []).map((part) => {
    if (typeof part.text === "string") {
      return part.thought === true ? dim(`(thought: ${shortened(part.text, 100)})\n`) : part.text;
    }
    const [kind = "empty part"] = Object.keys(part);
    return dim(`(${kind}: ${shortened(JSON.stringify(part), 100)})`);
  });
  return texts.join("");
}

const isEmpty = (value: unknown) =>
  value === null || (typeof value === "object" && Object.keys(value ?? {}).length === 0);

const indented = (text: string) => text.split("\n").map((line) => `  ${line}`).join("\n");
