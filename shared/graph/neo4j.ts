import type { ReadVariable } from "../runtime/settings.ts";
import * as z from "zod";
import { GatewayError } from "../contract/gateway_error.ts";

export const NEO4J_URI_VARIABLE = "NEO4J_URI";
export const NEO4J_USER_VARIABLE = "NEO4J_USER";
export const NEO4J_PASSWORD_VARIABLE = "NEO4J_PASSWORD";
/** The database there; `neo4j` is what a new one is called. */
export const NEO4J_DATABASE_VARIABLE = "NEO4J_DATABASE";

/**
 * What the environment says of it; null: nothing.
 * @throws GatewayError `gateway_misconfigured`; it repeats nothing of a value
 */
export function neo4jSettings(read: ReadVariable): Neo4jSettings | null {
  const [uri, user, password] = [NEO4J_URI_VARIABLE, NEO4J_USER_VARIABLE, NEO4J_PASSWORD_VARIABLE].map((
    name,
  ) => read(name)?.trim() ?? "") as [string, string, string];
  if (uri === "" && user === "" && password === "") return null;
  const wrong = (problem: string) =>
    new GatewayError("gateway_misconfigured", { detail: `neo4j: ${problem}` });
  if (uri === "" || user === "" || password === "") {
    throw wrong(
      `${NEO4J_URI_VARIABLE}, ${NEO4J_USER_VARIABLE} and ${NEO4J_PASSWORD_VARIABLE} belong together`,
    );
  }
  // As its own drivers name it; over HTTP it is the same host.
  const address = uri.replace(/^neo4j\+s:/, "https:");
  const url = URL.canParse(address) ? new URL(address) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== "" || url.search !== "") {
    throw wrong(
      `${NEO4J_URI_VARIABLE} must be an http or https address, or neo4j+s, without credentials in it`,
    );
  }
  const database = read(NEO4J_DATABASE_VARIABLE)?.trim() || "neo4j";
  if (!/^[A-Za-z0-9][A-Za-z0-9.-]{2,62}$/.test(database)) {
    throw wrong(`${NEO4J_DATABASE_VARIABLE} must be the name of a database`);
  }
  return {
    url: `${url.origin}${url.pathname.replace(/\/+$/, "")}/db/${database}/query/v2`,
    authorization: `Basic ${btoa(String.fromCharCode(...new TextEncoder().encode(`${user}:${password}`)))}`,
  };
}

export interface Neo4jSettings {
  url: string;
  authorization: string;
}

/** What went wrong with a statement. Its message names no address, no credential and no value that was sent. */
export class Neo4jError extends Error {
  constructor(
    message: string,
    /** Whether the statement itself is refused: the same again would be, too, and a part of it may not. */
    readonly isStatements: boolean,
  ) {
    super(message);
  }
}

const answer = z.object({
  data: z.object({ values: z.array(z.array(z.unknown())) }).nullish(),
  errors: z.array(z.object({ code: z.string() })).nullish(),
});

/** Posts JSON, follows no redirect, and reads the beginning of the answer; `error`: none came. Throws the signal's reason alone. */
export type Send = (
  url: string,
  body: string,
  headers: Record<string, string>,
) => Promise<{ status: number; text: string } | { error: string }>;

export type RunStatement = (statement: string, parameters?: Record<string, unknown>) => Promise<unknown[][]>;

/**
 * Runs a statement in a transaction of its own, by the Query API (https://neo4j.com/docs/query-api/current/), and answers its rows.
 * @throws Neo4jError, and the signal's reason when it aborts
 */
export function neo4jStatements({ url, authorization }: Neo4jSettings, send: Send): RunStatement {
  return async (statement, parameters = {}) => {
    const body = JSON.stringify({ statement, parameters });
    const said = await send(url, body, { authorization, accept: "application/json" });
    if ("error" in said) throw new Neo4jError(`Neo4j: ${said.error}`, false);
    const { status, text } = said;
    const parsed = answer.safeParse(jsonOf(text));
    const code = parsed.success ? parsed.data.errors?.[0]?.code : undefined;
    // 202 also where the statement has failed: then errors say so, and nothing of it was written.
    if (code !== undefined && /^[A-Za-z.]{1,100}$/.test(code)) {
      throw new Neo4jError(
        `Neo4j: ${code}`,
        /^Neo\.ClientError\.(Statement|Schema)\./.test(code) || code === "Neo.ClientError.Request.Invalid",
      );
    }
    if (status >= 300 && status < 400) {
      throw new Neo4jError(`Neo4j: status ${status}: a redirect, which is not followed`, false);
    }
    if (status < 200 || status >= 300 || !parsed.success || parsed.data.errors?.length) {
      // 413 and the like: less at a time may pass.
      throw new Neo4jError(`Neo4j: status ${status}`, status === 400 || status === 413);
    }
    return parsed.data.data?.values ?? [];
  };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
