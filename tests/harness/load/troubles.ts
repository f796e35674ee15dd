/**
 * What goes wrong on a bad day, each as something that begins and is over again. Nothing here repairs what it broke: that is
 * the system's own business, and what the tests look at. Where a person has to act (a key that Google rejects), it says so.
 */
import type postgres from "postgres";
import type { FaultSpec } from "../../../local/emulator/faults.ts";
import type { Stack } from "../../../local/stack.ts";
import { moveClock } from "../database_clock.ts";

export interface Site {
  stack: Stack;
  /** As the owner of the database. Reconnects by itself. */
  sql: postgres.Sql;
  /** Uniform in [0, 1). */
  random: () => number;
}

/** How long it lasts: so many milliseconds, or until something has happened. */
export type Lasts = number | (() => Promise<unknown>);

export interface Trouble {
  name: string;
  /** Resolves when the trouble is over, which is not when everything has recovered. */
  run(site: Site, lasts: Lasts, key?: string): Promise<void>;
  /** Answers may have gone out that were never settled. */
  kills?: boolean;
  /** Only the emulator can judge the minute while it lasts. */
  movesClock?: boolean;
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const pass = (lasts: Lasts): Promise<unknown> => typeof lasts === "number" ? sleep(lasts) : lasts();

export async function control(
  site: Site,
  path: string,
  body: unknown,
  method = "POST",
): Promise<void> {
  const response = await fetch(`${site.stack.emulatorUrl}/__control/${path}`, {
    method,
    ...(method === "POST" && { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${path}: ${await response.text()}`);
  await response.body?.cancel();
}

/** A statement that must get through although the database may be coming up again. */
export async function insist<Value>(run: () => Promise<Value>): Promise<Value> {
  for (let tries = 1;; tries++) {
    try {
      return await run();
    } catch (error) {
      if (tries >= 60) throw error;
      await sleep(250);
    }
  }
}

/** Faults of the emulator's meanwhile, whatever is asked of it meanwhile. */
async function upstream(
  site: Site,
  lasts: Lasts,
  ...faults: FaultSpec[]
): Promise<void> {
  await control(site, "faults", faults);
  await pass(lasts);
  await control(site, "faults", undefined, "DELETE");
}

/** The whole server stands still: connections stay open and nothing answers. */
async function standStill(site: Site, lasts: Lasts): Promise<void> {
  const pids = await serverProcesses(site.stack.database.pid!);
  for (const pid of pids) signal(pid, "SIGSTOP");
  try {
    await pass(lasts);
  } finally {
    for (const pid of pids.toReversed()) signal(pid, "SIGCONT");
  }
}

async function serverProcesses(postmaster: number): Promise<number[]> {
  const found = await new Deno.Command("pgrep", {
    args: ["-P", String(postmaster)],
  }).output();
  const children = new TextDecoder().decode(found.stdout).split("\n").filter(
    Boolean,
  ).map(Number);
  return [postmaster, ...children];
}

function signal(pid: number, name: Deno.Signal): void {
  try {
    Deno.kill(pid, name);
  } catch {
    // A backend that ended meanwhile.
  }
}

/** Every row that the audit is to take is refused as a full disk refuses it. */
async function fillAudit(site: Site): Promise<void> {
  await site.sql.unsafe(`
    create or replace function eve.disk_is_full() returns trigger language plpgsql set search_path = '' as $$
    begin
      raise exception 'could not extend file "base/5/16999": No space left on device' using errcode = '53100';
    end $$;
    ${
    AUDIT_TABLES.map((table) =>
      `create or replace trigger full_disk before insert on ${table} for each row execute function eve.disk_is_full();`
    ).join("\n")
  }
  `).simple();
}

async function emptyAudit(site: Site): Promise<void> {
  await insist(() =>
    site.sql.unsafe(
      `${AUDIT_TABLES.map((table) => `drop trigger if exists full_disk on ${table};`).join("\n")}
       drop function if exists eve.disk_is_full();`,
    ).simple()
  );
}

const AUDIT_TABLES = [
  "eve.earlier_attempts",
  "eve.requests",
  "eve.refusals",
  "eve.refusal_counts",
  "public.token_usage",
];

export const TROUBLES = {
  worker_killed: {
    name: "the functions host is killed (kill -9)",
    kills: true,
    run: async ({ stack }) => {
      stack.functions.get("llm-invoke")!.kill("SIGKILL");
      await Promise.resolve();
    },
  },
  postgres_restarted: {
    name: "PostgreSQL is restarted",
    run: async ({ stack }) => {
      await stack.database.stop();
      await stack.database.start();
    },
  },
  postgres_killed: {
    name: "PostgreSQL is killed (kill -9)",
    run: async ({ stack }) => {
      const { pid } = stack.database;
      signal(pid!, "SIGKILL");
      while (stack.database.pid === undefined || stack.database.pid === pid) {
        await sleep(20);
      }
    },
  },
  database_gone: {
    name: "the database refuses connections",
    run: async ({ stack }, lasts) => {
      await stack.database.stop();
      await pass(lasts);
      await stack.database.start();
    },
  },
  database_silent: {
    name: "the database answers nothing, connections stay open",
    run: standStill,
  },
  audit_full: {
    name: "the audit's disk is full",
    run: async (site, lasts) => {
      await insist(() => fillAudit(site));
      try {
        await pass(lasts);
      } finally {
        await emptyAudit(site);
      }
    },
  },
  upstream_hangs: {
    name: "upstream hangs",
    run: (site, lasts) => upstream(site, lasts, { kind: "hang", times: null }),
  },
  upstream_overloaded: {
    name: "upstream answers 503 and 500",
    run: (site, lasts) =>
      upstream(
        site,
        lasts,
        ...Array.from({ length: 200 }, (_, n): FaultSpec => ({
          kind: "status",
          error: n % 3 === 0 ? "internal" : "overloaded",
        })),
        { kind: "status", error: "overloaded", times: null },
      ),
  },
  upstream_garbled: {
    name: "upstream breaks off: resets, errors in mid-stream, half JSON, empty answers",
    run: (site, lasts) =>
      upstream(
        site,
        lasts,
        ...Array.from({ length: 300 }, (_, n) => GARBLED[n % GARBLED.length]!),
      ),
  },
  key_rejected: {
    name: "upstream rejects a key as leaked; a person puts it right afterwards",
    run: async (site, lasts, key = "demo-key-c") => {
      await upstream(site, lasts, {
        kind: "status",
        error: "key_leaked",
        match: { key },
        times: null,
      });
      await switchKeys(site, true);
    },
  },
  keys_off: {
    name: "every key is switched off, and on again",
    run: async (site, lasts) => {
      await switchKeys(site, false);
      await pass(lasts);
      await switchKeys(site, true);
    },
  },
  tokens_revoked: {
    name: "the notebooks' tokens are revoked",
    run: async ({ sql }) => {
      await insist(() =>
        sql`update eve.scoped_tokens set revoked_at = eve.clock() where revoked_at is null`
          .execute()
      );
    },
  },
  limits_halved: {
    name: "every limit is halved, and raised again",
    run: async ({ sql }, lasts) => {
      await insist(() =>
        sql`update public.google_ai_model_limits set rpm = rpm / 2, tpm = tpm / 2`
          .execute()
      );
      await pass(lasts);
      await insist(() =>
        sql`update public.google_ai_model_limits set rpm = rpm * 2, tpm = tpm * 2`
          .execute()
      );
    },
  },
  clock_forward: {
    name: "the database's clock jumps ahead by forty minutes, and back",
    movesClock: true,
    run: (site, lasts) => clockTrip(site, lasts, CLOCK_JUMP_MS),
  },
  clock_back: {
    name: "the database's clock jumps back by forty minutes, and ahead again",
    movesClock: true,
    run: (site, lasts) => clockTrip(site, lasts, -CLOCK_JUMP_MS),
  },
} satisfies Record<string, Trouble>;

export type TroubleName = keyof typeof TROUBLES;

const GARBLED: FaultSpec[] = [
  { kind: "broken_stream", how: "reset", afterChunks: 2 },
  { kind: "mid_stream_error", as: "frame" },
  { kind: "malformed_json" },
  { kind: "disconnect" },
  { kind: "broken_stream", how: "end", afterChunks: 1 },
  { kind: "mid_stream_error", as: "raw" },
  { kind: "empty_answer" },
];

/**
 * Many windows and leases, and seldom past a midnight. A load must be shorter: starts that were written down while the
 * clock was ahead would stand among those of the time when it really comes, and nobody could tell the two apart.
 */
export const CLOCK_JUMP_MS = 40 * 60_000;

async function clockTrip(
  site: Site,
  lasts: Lasts,
  offsetMs: number,
): Promise<void> {
  await insist(() => moveClock(site.sql, offsetMs));
  try {
    await pass(lasts);
  } finally {
    await insist(() => moveClock(site.sql, 0));
  }
}

async function switchKeys({ sql }: Site, on: boolean): Promise<void> {
  await insist(() =>
    sql`
      update public.google_ai_api_keys
      set is_active = ${on}, blocked_until = null, blocked_reason = null`
      .execute()
  );
  if (on) await insist(() => sql`delete from eve.key_model_blocks`.execute());
}
