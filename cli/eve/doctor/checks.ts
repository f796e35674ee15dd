/** The doctor's judgement: facts to green, yellow and red, each with what to do. Pure, so that every red has its test. */
import { fewOf } from "../../../local/migration_sums.ts";
import { unreleasedMigrations } from "../../../local/unreleased_migrations.ts";
import type { KeyState, ProjectFacts } from "../../../shared/database/reading.ts";
import { secretSourceOf } from "../../../shared/contract/secret_source.ts";
import { bytes, counted, duration, instant } from "../table.ts";
import { isLoopback } from "../connection.ts";
import { because, howToSet, UNREADABLE } from "../key_advice.ts";
import type { Facts, FunctionFacts } from "./facts.ts";

export interface Check {
  /** Stable, for programs: reach, database, clock, ... */
  name: string;
  /** green: as it should be. yellow: it works, and somebody should look. red: something does not work. */
  state: "green" | "yellow" | "red";
  /** What was found. */
  found: string;
  /** What to do; null: nothing. */
  todo: string | null;
}

/** Beyond this, waits and expiries that two clocks take part in begin to be wrong. */
const CLOCK_YELLOW_MS = 5_000;
/** Tokens would be refused as not yet valid, or live on after their end. */
const CLOCK_RED_MS = 60_000;
/** The `date` header is cut to the second, and the way takes time. */
const HEADER_ERROR_MS = 2_000;
const FREE_PLAN_BYTES = 500_000_000;
/** What the check of a key says where nobody answered. */
const UNREACHED = ["upstream_unavailable", "upstream_timeout", "no_answer"];
/** PostgreSQL writes its log ahead in files of 16 MB, and ends when there is no room for the next. */
const LEAST_FREE_BYTES = 32 * 1024 * 1024;
const NEARLY_FULL = 0.8;
/** A job is made to run minutes after a migration at the latest. */
const FIRST_RUN_WITHIN_MS = 15 * 60_000;

export function judge(facts: Facts): Check[] {
  const { project } = facts;
  const checks = [reach(facts), folder(facts)].filter((check) => check !== null);
  if (project === null) return checks;
  checks.push(
    migrations(project, facts),
    clock(facts),
    functionClock(facts.functions),
    ...facts.functions.map(answering),
    extensions(project),
    jobs(project),
    vault(project),
    operations(project),
    ...facts.keys.filter((key) => key.is_active).map((key) => secret(key, facts)),
    ...[writing(facts), upstream(facts)].filter((check) => check !== null),
    keys(facts),
    models(facts),
    alerts(project),
    leases(project),
    refusals(project),
    size(project),
    ...[fileLimits(facts), defaultTenant(facts), realtime(facts)].filter((check) => check !== null),
    testCall(facts),
  );
  return checks;
}

/** The worst of all: what the exit code says. */
export function verdict(checks: readonly Check[]): Check["state"] {
  if (checks.some(({ state }) => state === "red")) return "red";
  return checks.some(({ state }) => state === "yellow") ? "yellow" : "green";
}

const green = (name: string, found: string): Check => ({ name, state: "green", found, todo: null });
const yellow = (name: string, found: string, todo: string): Check => ({ name, state: "yellow", found, todo });
const red = (name: string, found: string, todo: string): Check => ({ name, state: "red", found, todo });

function reach({ reach, url, roundTripMs }: Facts): Check {
  const name = "project";
  switch (reach.state) {
    case "ok":
      return green(name, `${url} answers in ${duration(roundTripMs)} and takes the key`);
    case "unreachable":
      return red(
        name,
        `${url} does not answer (${reach.detail})`,
        isLoopback(url)
          ? "start the local stack: npm start."
          : "check the address and the network. A project of the free plan that nobody used for a week is paused: resume it in the dashboard. The local stack is started with npm start.",
      );
    case "unauthorised":
      return red(
        name,
        `${url} refuses the key`,
        "use the secret key (sb_secret_...) of this project, from Project Settings, API Keys. A publishable key is not enough.",
      );
    case "unprepared":
      return red(
        name,
        `${url} answers and knows nothing of the gateway`,
        "run npm run deploy. If the migrations are there, expose the schema public: Project Settings, Data API.",
      );
    case "failing":
      return red(name, `${url} fails (${reach.detail})`, "look at the project's logs in the dashboard.");
  }
}

/** Only the local stack's owner has to do with a folder. */
function folder({ folder }: Facts): Check | null {
  if (folder === null) return null;
  const { path, freeBytes, problem } = folder;
  const name = "disk";
  const free = freeBytes === null ? "" : `, with ${bytes(freeBytes)} free`;
  if ((freeBytes !== null && freeBytes < LEAST_FREE_BYTES) || /No space|quota/i.test(problem ?? "")) {
    return red(
      name,
      `the disk of ${path} is full${problem === null ? free : ` (${problem})`}`,
      "free some space, then start the stack again: npm start.",
    );
  }
  if (problem !== null) {
    return red(
      name,
      `nothing can be written to ${path} (${problem})`,
      "make the folder writable for the user who runs the stack, or set EVE_DATA_DIR to one that is; then npm start.",
    );
  }
  return green(name, `${path} can be written to${free}`);
}

function writing({ writeProblem }: Facts): Check | null {
  if (writeProblem === null) return null;
  return red(
    "writing",
    `the database answers, and takes nothing down: ${writeProblem}`,
    "its disk is full, or it is read-only: free space on the local stack's disk; on a hosted project see Database, Settings, Disk in the dashboard.",
  );
}

/** Said once, since it is no key's fault. */
function upstream({ keys, keysChecked }: Facts): Check | null {
  const checks = keys.filter((key) => key.is_active).map((key) => key.check).filter((check) =>
    check !== null
  );
  const unreached = checks.filter(({ outcome, reason }) =>
    outcome === "unclear" && UNREACHED.includes(reason ?? "")
  );
  if (!keysChecked.done || unreached.length === 0 || unreached.length < checks.length) return null;
  return red(
    "upstream",
    `it could not be reached for any key: ${unreached[0]!.detail ?? "no answer"}`,
    "check the network, the name service and any proxy or firewall between the functions and it, and GOOGLE_API_BASE_URL if you have set it.",
  );
}

function migrations(
  { migrations: applied, migration_sums: sums, server_version }: ProjectFacts,
  { migrations: wanted, migrationSums }: Facts,
): Check {
  const name = "migrations";
  if (applied === null) {
    return yellow(
      name,
      "this database keeps no history of migrations",
      "apply them with npm run deploy, which keeps one.",
    );
  }
  const unreleased = unreleasedMigrations(applied);
  if (unreleased.length > 0) {
    return red(
      name,
      "this database was made by an edition of the gateway from before its first release, which cannot be brought up to date",
      "locally: npm run reset, and npm start. A hosted project: npm run deploy says how.",
    );
  }
  const changed = wanted.filter((version) => sums[version] && sums[version] !== migrationSums[version]);
  if (changed.length > 0) {
    return red(
      name,
      `this database was made with another text of ${fewOf(changed)} than this checkout has`,
      "use the checkout that made it; or begin again: locally npm run reset, and npm start. A hosted project: npm run deploy says how.",
    );
  }
  const missing = wanted.filter((version) => !applied.includes(version));
  if (missing.length > 0) {
    return red(
      name,
      `${missing.length} of this checkout's ${wanted.length} are not applied: ${missing.join(", ")}`,
      "run npm run deploy; locally, start the stack again.",
    );
  }
  // Others may live in the same project; only what is newer than ours can be an upgrade that this checkout lacks.
  const newest = wanted.at(-1) ?? "";
  const newer = applied.filter((version) => version > newest);
  if (newer.length > 0) {
    return yellow(
      name,
      `all ${wanted.length} are applied, and ${newer.length} that this checkout does not know`,
      "if they are the gateway's, this checkout is older than the database: git pull.",
    );
  }
  return green(name, `all ${wanted.length} are applied (PostgreSQL ${server_version})`);
}

function clock({ clockAheadMs, roundTripMs }: Facts): Check {
  const name = "clock";
  const ahead = clockAheadMs ?? 0;
  const off = Math.max(Math.abs(ahead) - (roundTripMs ?? 0) / 2, 0);
  const words = `this machine is ${duration(Math.abs(ahead))} ${
    ahead < 0 ? "behind" : "ahead of"
  } the database`;
  if (off > CLOCK_YELLOW_MS) {
    return yellow(
      name,
      words,
      "set this machine's clock. The gateway goes by the database's, so no call is affected; only what you compare by hand.",
    );
  }
  return green(name, off < 1_000 ? "this machine and the database agree" : words);
}

function functionClock(functions: readonly FunctionFacts[]): Check {
  const name = "function clock";
  const reported = functions.map(({ clockAheadMs }) => clockAheadMs).filter((ahead) => ahead !== null);
  if (reported.length === 0) return green(name, "the functions do not tell their time");
  const off = Math.max(Math.max(...reported.map(Math.abs)) - HEADER_ERROR_MS, 0);
  const words = `the functions are ${duration(off)} off the database`;
  if (off > CLOCK_RED_MS) {
    return red(
      name,
      words,
      "notebooks' tokens are checked by the functions' clock and will be refused. On a project of Supabase, tell its support; elsewhere set the host's clock.",
    );
  }
  if (off > CLOCK_YELLOW_MS * 2) {
    return yellow(name, words, "look again in a minute; set the host's clock if it stays.");
  }
  return green(name, "the functions and the database agree");
}

function answering({ name: called, state, detail }: FunctionFacts): Check {
  const name = `function ${called}`;
  switch (state) {
    case "answers":
      return green(name, "it answers");
    case "absent":
      return red(name, "it is not deployed", "run npm run deploy.");
    case "refuses":
      return red(
        name,
        `it refuses the key (${detail})`,
        "if the key is current, the function was deployed with a check of JSON Web Tokens in front of it: run npm run deploy, which reads supabase/config.toml.",
      );
    case "broken":
      return red(
        name,
        `it does not work (${detail})`,
        "read its log in the dashboard, Edge Functions; then run npm run deploy.",
      );
  }
}

function extensions({ extensions }: ProjectFacts): Check {
  const name = "extensions";
  const missing = extensions.filter((one) => one.installed === null && !one.schema);
  if (missing.length > 0) {
    return red(
      name,
      `${missing.map((one) => one.name).join(", ")} ${
        missing.length === 1 ? "is" : "are"
      } not enabled: what is scheduled does not run`,
      "enable them in the dashboard under Database, Extensions, then run in its SQL editor: select public.eve_schedule();",
    );
  }
  const standIns = extensions.filter((one) => one.installed === null);
  if (standIns.length > 0) {
    return green(name, `${extensions.map((one) => one.name).join(", ")} (this stack's own stand-ins)`);
  }
  return green(name, extensions.map((one) => `${one.name} ${one.installed}`).join(", "));
}

function jobs({ jobs, operations, now }: ProjectFacts): Check {
  const name = "cron jobs";
  const schedule = "run in the SQL editor: select public.eve_schedule();";
  if (jobs === null) return red(name, "there is no schedule", `enable pg_cron, then ${schedule}`);
  const wanted = operations.filter((one) => one.is_active && one.schedule !== null);
  const found = wanted.map((one) => ({ one, job: jobs.find((job) => job.name === `eve_${one.operation}`) }));
  const absent = found.filter(({ job }) => job === undefined).map(({ one }) => `eve_${one.operation}`);
  if (absent.length > 0) {
    return red(name, `${absent.join(", ")} ${absent.length === 1 ? "is" : "are"} missing`, schedule);
  }
  const off = found.filter(({ job }) => job?.active === false).map(({ job }) => job!.name);
  if (off.length > 0) {
    return red(name, `${off.join(", ")} ${off.length === 1 ? "is" : "are"} switched off`, schedule);
  }
  const failed = found.filter(({ job }) => job?.last?.status === "failed").map(({ job }) => job!);
  if (failed.length > 0) {
    return red(
      name,
      failed.map((job) =>
        `${job.name} failed at ${instant(job.last!.ended_at)}: ${job.last!.message ?? "no reason given"}`
      )
        .join("; "),
      "read the reason and fix it; then run the operation by hand: npm run eve -- maintenance run OPERATION",
    );
  }
  const minutely = found.filter(({ one, job }) => one.schedule === "* * * * *" && job?.last === null);
  const waiting = minutely.filter(({ one }) =>
    one.expected_since !== null && Date.parse(now) - Date.parse(one.expected_since) > FIRST_RUN_WITHIN_MS
  );
  if (waiting.length > 0) {
    return red(
      name,
      `${waiting.map(({ job }) => job!.name).join(", ")} should run every minute and never ran`,
      "pg_cron does not run: restart the project in the dashboard (Project Settings, General); locally, restart the stack.",
    );
  }
  const ran = found.filter(({ job }) => job?.last !== null).length;
  return green(name, `${counted(found.length, "job")}, ${ran} of them ran and went well`);
}

function vault({ vault_names, operations, http_last_hour }: ProjectFacts): Check {
  const name = "scheduled calls";
  const needed = ["eve_project_url", "eve_secret_key"];
  const overHttp = operations.filter((one) =>
    one.is_active && one.schedule !== null && one.runs_in === "http"
  );
  if (overHttp.length === 0) return green(name, "nothing is scheduled over HTTP");
  const missing = needed.filter((one) => !(vault_names ?? []).includes(one));
  if (missing.length > 0) {
    return red(
      name,
      `Vault has no ${missing.join(" and no ")}, so ${
        overHttp.map((one) => one.operation).join(", ")
      } do not run`,
      "run: npm run eve -- maintenance connect",
    );
  }
  const { answered = 0, refused = 0, unanswered = 0, last_error = null } = http_last_hour ?? {};
  if (answered === 0 && refused + unanswered > 0) {
    return red(
      name,
      `none of ${refused + unanswered} scheduled calls of the last hour went well: ${last_error}`,
      "the URL or the key in Vault is not right any more: npm run eve -- maintenance connect. Then see the function's log.",
    );
  }
  if (refused + unanswered > 0) {
    return yellow(
      name,
      `${refused + unanswered} of ${
        answered + refused + unanswered
      } scheduled calls of the last hour did not go well: ${last_error}`,
      "see npm run eve -- maintenance log --failed",
    );
  }
  return green(
    name,
    answered === 0
      ? "Vault holds the URL and the key"
      : `${counted(answered, "call")} of the last hour went well`,
  );
}

function operations({ operations, now }: ProjectFacts): Check {
  const name = "maintenance";
  const failed = operations.filter((one) => one.is_active && one.last_status === "failed");
  if (failed.length > 0) {
    return red(
      name,
      failed.map((one) => `${one.operation} failed: ${one.last_error ?? "no reason given"}`).join("; "),
      "fix the cause, then: npm run eve -- maintenance run OPERATION",
    );
  }
  const late = operations.filter((one) => {
    if (!one.is_active || one.within_s === null) return false;
    const since = one.last_succeeded_at ?? one.expected_since;
    return since !== null && Date.parse(now) - Date.parse(since) > one.within_s * 1_000;
  });
  if (late.length > 0) {
    return red(
      name,
      `${late.map((one) => one.operation).join(", ")} ${
        late.length === 1 ? "has" : "have"
      } not succeeded for too long`,
      "see the checks of extensions, jobs and Vault; and npm run eve -- maintenance log",
    );
  }
  const never = operations.filter((one) =>
    one.is_active && one.schedule !== null && one.last_succeeded_at === null
  );
  return green(
    name,
    never.length === 0
      ? `all ${operations.length} operations went well`
      : `nothing failed; still to come for the first time: ${never.map((one) => one.operation).join(", ")}`,
  );
}

function secret(key: KeyState, { url, keysChecked: { done, why } }: Facts): Check {
  const called = key.alias ?? key.id;
  const name = `key ${called}`;
  const variable = key.env_var_name;
  if (variable === null) {
    return red(
      name,
      "its row names no secret",
      "set env_var_name to the name of the Edge secret that holds the key.",
    );
  }
  if (secretSourceOf(variable).kind === "stage") {
    return key.state === "blocked"
      ? red(
        name,
        `upstream rejects it: ${because(key.blocked_reason)}`,
        "enter another one for its stage, in the console; see npm run eve -- providers list.",
      )
      : green(name, "it is kept for its stage; npm run eve -- providers list says how it is");
  }
  if (key.check?.outcome === "secret_missing" || key.blocked_reason === "secret_missing") {
    return red(
      name,
      secretSourceOf(variable).kind === "stored" ? UNREADABLE : `no secret is named ${variable}`,
      `set it: ${howToSet(key, url)}. Then npm run eve -- keys test ${called}`,
    );
  }
  if (key.check?.outcome === "rejected" || (key.state === "blocked" && key.blocked_until === "infinity")) {
    return red(
      name,
      `upstream rejects it: ${because(key.check?.reason ?? key.blocked_reason)}`,
      `make a new key, and set it: ${
        howToSet(key, url)
      }. With another secret it is used again by itself; with this one, once it is fixed, after npm run eve -- keys enable ${called}`,
    );
  }
  if (!done) {
    return yellow(
      name,
      `it could not be checked: ${why ?? "no reason given"}`,
      "fix what the other checks say, then look again.",
    );
  }
  if (key.check?.outcome === "unclear") {
    return yellow(
      name,
      `upstream could not be asked about it: ${key.check.detail ?? "no answer"}`,
      "look again in a while.",
    );
  }
  if (key.state === "blocked") {
    return yellow(
      name,
      `it rests until ${instant(key.blocked_until)}: ${because(key.blocked_reason)}`,
      "it comes back by itself.",
    );
  }
  return green(name, `${variable} is set, and upstream takes it`);
}

function keys({ keys }: Facts): Check {
  const name = "keys";
  const on = keys.filter((key) => key.state === "on");
  if (keys.length === 0) {
    return red(
      name,
      "there is no key",
      "add one: npm run eve -- keys add ALIAS --env GOOGLE_API_KEY_1 --project PROJECT",
    );
  }
  if (on.length === 0) {
    return red(
      name,
      `none of ${counted(keys.length, "key")} can be used`,
      "npm run eve -- keys list says why.",
    );
  }
  const projects = new Set(on.map((key) => key.quota_key));
  return green(
    name,
    `${on.length} of ${counted(keys.length, "key")} in use, in ${counted(projects.size, "quota project")}`,
  );
}

function models({ keys, project }: Facts): Check {
  const name = "models";
  const lanes = keys.flatMap((key) => key.lanes);
  const all = new Set(lanes.map((lane) => lane.model));
  if ((project?.models ?? 0) === 0) {
    return red(
      name,
      "no model is switched on",
      "npm run eve -- models list; rows of google_ai_model_limits are the models.",
    );
  }
  const closed = [...all].filter((model) =>
    lanes.every((lane) =>
      lane.model !== model || ["paused", "no_key", "day_used_up", "no_quota"].includes(lane.state)
    )
  );
  if (closed.length > 0) {
    return yellow(
      name,
      `no quota project serves ${closed.join(", ")} now`,
      "npm run eve -- keys list --all says why: the day's quota is used up, upstream asked for a pause, or no key may.",
    );
  }
  return green(name, `${counted(all.size, "model")} can be asked`);
}

function alerts({ alerts }: ProjectFacts): Check {
  const name = "alerts";
  if (alerts.length === 0) return green(name, "none is open");
  const critical = alerts.filter((alert) => alert.severity === "critical");
  const found = alerts.map((alert) => `${alert.message} (${alert.kind}, number ${alert.id})`).join("; ");
  const todo = "npm run eve -- alerts show NUMBER says what to do; docs/alerts.md has them all.";
  return critical.length > 0
    ? red(name, `${counted(critical.length, "critical alert")}: ${found}`, todo)
    : yellow(name, `${counted(alerts.length, "open alert")}: ${found}`, todo);
}

function refusals({ refused_last_hour: { kept, counted: beyond } }: ProjectFacts): Check {
  const name = "refusals";
  if (beyond === 0) {
    return green(name, kept === 0 ? "none in the last hour" : `${counted(kept, "refusal")} in the last hour`);
  }
  return yellow(
    name,
    `${counted(kept + beyond, "refusal")} in the last hour, ${beyond} of them more than a minute's rows take`,
    "somebody asks again and again: npm run eve -- usage --by consumer,model --since 1h says who.",
  );
}

function leases({ overdue }: ProjectFacts): Check {
  const name = "reservations";
  if (overdue === 0) return green(name, "none is open past its lease");
  return red(
    name,
    `${counted(overdue, "reservation")} open past the lease`,
    "the sweep does not run: npm run eve -- maintenance run sweep, and see the check of the jobs.",
  );
}

function size({ database_bytes }: ProjectFacts): Check {
  const name = "database";
  if (database_bytes > FREE_PLAN_BYTES * NEARLY_FULL) {
    return yellow(
      name,
      `it holds ${bytes(database_bytes)}; the free plan ends at ${
        bytes(FREE_PLAN_BYTES)
      }, where it becomes read-only`,
      "keep the audit for a shorter time (eve.retention), or take a paid plan: docs/cost.md.",
    );
  }
  return green(name, `it holds ${bytes(database_bytes)}`);
}

/** Null: no variable says anything of them. */
function fileLimits({ fileLimits }: Facts): Check | null {
  const name = "limits for files";
  const said = fileLimits.filter(({ env_bytes }) => env_bytes !== null);
  if (said.length === 0) return null;
  const differ = said.filter(({ env_bytes, limit_bytes }) => env_bytes !== limit_bytes);
  if (differ.length === 0) return green(name, "the variables and the rows of eve.media_limits agree");
  const words = differ.map(({ name, variable, env_bytes, limit_bytes }) =>
    `${variable} says ${bytes(env_bytes ?? 0)}, and the row ${name} ${bytes(limit_bytes)}`
  );
  const statements = differ.map(({ name, env_bytes }) =>
    `update eve.media_limits set limit_bytes = ${env_bytes} where name = '${name}';`
  );
  return yellow(
    name,
    words.join("; "),
    `the rows rule. To have what the variables say: ${
      statements.join(" ")
    } Or set the variables to what the rows say.`,
  );
}

/** Null: no variable names one, or it is the default one. */
function defaultTenant({ defaultTenantHeld: held }: Facts): Check | null {
  if (held === null) return null;
  const found = `S3_DEFAULT_TENANT_ID says ${held.named}, and the default tenant is ${held.default}`;
  return yellow(
    "default tenant",
    held.held_by.length === 0
      ? found
      : `${found}, to which belongs what is in ${held.held_by.join(", ")}: nothing was moved`,
    `to have new things belong to ${held.named}: npm run eve -- tenants set ${held.named} --default; what is there stays with ${held.default}. Or set the variable to ${held.default}.`,
  );
}

/** The local stack has no Realtime, and a page asks again instead. */
function realtime({ realtime }: Facts): Check | null {
  const name = "realtime";
  if (realtime === null || !realtime.publication) return null;
  const { missing } = realtime;
  if (missing.length === 0) return green(name, "tells other devices of new messages in chats");
  return yellow(
    name,
    `tells nobody of ${missing.join(", ")}: other devices see new messages when they ask again`,
    `alter publication supabase_realtime add table ${missing.map((table) => `public.${table}`).join(", ")};`,
  );
}

function testCall({ call, functions }: Facts): Check {
  const name = "test call";
  if (call === null) {
    const possible = functions.some((one) => one.name === "llm-invoke" && one.state === "answers");
    return yellow(
      name,
      "no call was made",
      possible
        ? "leave --no-call away to make one; it needs a key and a model."
        : "fix the function llm-invoke first.",
    );
  }
  if (call.ok) return green(name, `${call.model} answered by ${call.key} in ${duration(call.latencyMs)}`);
  const passes = [
    "rate_limited",
    "daily_limit",
    "lane_blocked",
    "too_many_waiting",
    "upstream_unavailable",
    "upstream_timeout",
    "content_blocked",
  ];
  const found = `${call.model} did not answer: ${call.code}${
    call.message === null ? "" : `, ${call.message}`
  }`;
  if (passes.includes(call.code ?? "")) return yellow(name, found, "look again when that is over.");
  return red(name, found, "the table of errors (docs/errors.md) says what to do about the code.");
}
