/** What puts an alert right, by its kind: the ways that its buttons offer, the likeliest first. */
import type { Alert } from "../api/shapes.ts";

export type Fix =
  /** A page, with what it opens there. */
  | { kind: "page"; page: FixPage; below?: string }
  /** Done at once, by a route of the admin API. */
  | { kind: "do"; words: Deed; path: string; body: Record<string, unknown> }
  /** In the owner's own tables the gateway changes nothing: a statement that shows what stands in the way. */
  | { kind: "sql"; statement: string };

type FixPage = "providers" | "quota" | "requests" | "jobs" | "storage" | "keys" | "vision";

/** Names of `alerts.fix`. */
type Deed = "use_key" | "run" | "replay" | "switch_on";

type Fixes = (alert: Pick<Alert, "subject">) => Fix[];

const page = (page: FixPage, below?: string): Fix => ({ kind: "page", page, ...(below && { below }) });

const part = (what: string, name: string) => `/${what}/${encodeURIComponent(name)}`;

const run = (operation: string): Fix => ({
  kind: "do",
  words: "run",
  path: "/maintenance/run",
  body: { operation },
});

/** Switching a key on, once more too, lifts what blocks it. */
const useKey = (id: string): Fix => ({
  kind: "do",
  words: "use_key",
  path: "/keys/change",
  body: { id, seen: {}, changes: { is_active: true } },
});

/** Of the form `UUID MODEL`, or the id alone. */
const keyIn = (subject: string) => subject.split(" ")[0] ?? "";

const rulesOf: Fixes = ({ subject }) => [{
  kind: "sql",
  statement:
    `select conname as rule, pg_get_constraintdef(oid) as definition from pg_constraint where conrelid = '${
      subject.replaceAll("'", "''")
    }'::regclass
union all
select tgname, pg_get_triggerdef(oid) from pg_trigger where tgrelid = '${
      subject.replaceAll("'", "''")
    }'::regclass and not tgisinternal;`,
}];

/** Of every kind that the database knows, by a test. */
export const FIXES: Record<string, Fixes> = {
  key_disabled: ({ subject }) => [page("keys", part("key", keyIn(subject))), useKey(keyIn(subject))],
  secret_missing: ({ subject }) => [page("keys", part("key", keyIn(subject))), useKey(keyIn(subject))],
  model_unavailable: ({ subject }) => [useKey(keyIn(subject)), page("keys")],
  model_vanished: ({ subject }) =>
    subject.startsWith("stage:") ? [page("providers")] : [page("keys", part("model", subject))],
  provider_key_invalid: () => [page("providers")],
  lane_exhausted: () => [page("quota")],
  refusals_high: () => [page("requests", "?outcome=refused")],
  upstream_errors: (
    { subject },
  ) => [page("requests", `?${new URLSearchParams({ outcome: "failed", model: subject })}`)],
  maintenance_failed: ({ subject }) => [run(subject)],
  maintenance_missing: ({ subject }) => [run(subject)],
  rollup_set_aside: () => [
    run("rollup"),
    { kind: "sql", statement: "select * from eve.rollup_set_aside;\nselect * from eve.rollup_due;" },
  ],
  disk_nearly_full: () => [run("retention")],
  usage_counters_refused: rulesOf,
  token_usage_refused: rulesOf,
  maintenance_log_refused: rulesOf,
  // Of the host, which no page reaches; it is over by itself.
  clock_went_back: () => [],
  job_lost: () => [page("jobs", part("state", "failed"))],
  dead_letters: ({ subject }) => [
    { kind: "do", words: "replay", path: "/dead-letters/replay", body: { consumer: subject } },
    page("jobs", part("part", "dead_letters")),
  ],
  webhook_gone: ({ subject }) => [
    {
      kind: "do",
      words: "switch_on",
      path: "/webhooks/change",
      body: { id: subject.replace(/^webhook:/, ""), enabled: true },
    },
    page("jobs", part("part", "webhooks")),
  ],
  storage_emergency_cleanup: () => [page("storage")],
  storage_full: () => [page("storage")],
  media_missing: () => [run("media_reconcile"), page("storage")],
  vision_budget_near: () => [page("vision")],
  vision_budget_used_up: () => [page("vision")],
};
