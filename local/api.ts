/** `/rest/v1` and `/auth/v1`: @supabase/lite embedded over the local cluster. */
import { App } from "@supabase/lite";
import { createPostgresConnection } from "@supabase/lite/postgres";
import postgres from "postgres";
import { ConnectionPool } from "./connection_pool.ts";

export interface ApiOptions {
  /** As `postgres`: what requests run through, each in the role of its key. */
  databaseUrl: string;
  /** As the superuser: makes the tables of the schema `auth`. */
  superuserUrl: string;
  keys: { publishable: string; secret: string; jwtSecret: string };
}

export interface Api {
  fetch(request: Request, peerAddress: string): Response | Promise<Response>;
  close(): Promise<void>;
}

/** Requests are short; hosted projects of the smallest size have about as many. */
const CONNECTIONS = 20;
const CONNECT_TIMEOUT_S = 5;

/**
 * What follows here and in `createApp` bends @supabase/lite 0.10.0, the newest there is, to what PostgREST does; look at each again
 * when there is a newer one.
 *
 * It writes the arguments of a function out as JSON and then lets the driver do the same once more, so that a `jsonb`
 * argument arrives as a text in quotes. Text that is an object or a list already goes to the database as it is.
 */
const JSON_TYPES = {
  json: { to: 114, from: [114], serialize: jsonText, parse: (text: string) => JSON.parse(text) },
  jsonb: { to: 3802, from: [3802], serialize: jsonText, parse: (text: string) => JSON.parse(text) },
};

/** Starts it. The schema is read once, here: call this after the migrations. */
export async function startApi(options: ApiOptions): Promise<Api> {
  const owner = await createApp(options.superuserUrl, options.keys);
  await owner.app.ensureSystemSchema();
  await owner.close();
  const superuser = postgres(options.superuserUrl, { max: 1 });
  await superuser.unsafe(`
    grant select, insert, update, delete on all tables in schema auth to postgres;
    grant usage on all sequences in schema auth to postgres;
  `).simple();
  await superuser.end();

  const { app, close } = await createApp(options.databaseUrl, options.keys);
  await app.init();
  return { fetch: (request, peerAddress) => app.fetch(request, { peerAddress }), close };
}

async function createApp(url: string, keys: ApiOptions["keys"]) {
  const connect = (more: Record<string, unknown>) =>
    createPostgresConnection({
      url,
      postgresOptions: { connect_timeout: CONNECT_TIMEOUT_S, onnotice: () => {}, types: JSON_TYPES, ...more },
    });
  const connection = connect({});
  const pool = new ConnectionPool({
    client: (onclose) =>
      withTypesOf(connection.driver, connect({ max: 1, onclose, fetch_types: false }).driver),
    connections: CONNECTIONS,
  });
  await connection.driver`select 1`;
  await connection.driver.end();
  // Everything it asks goes over a connection that it borrows first.
  Object.assign(connection.driver, { reserve: () => pool.reserve(), end: () => pool.end() });
  showOwnErrcodes(connection);
  // On a database with row-level security it would grant everything to the API roles first, which hides every missing
  // grant and every missing revoke in the migrations. Telling it that this was done keeps the privileges as they are.
  Object.assign(connection, { rlsState: "active" });
  const app = new App({
    connection,
    api: { schemas: ["public"] },
    auth: {
      enabled: true,
      jwt_secret: keys.jwtSecret,
      publishable_key: keys.publishable,
      secret_key: keys.secret,
    },
    // Its admin mode serves requests without any key.
    options: { server: { admin: false } },
  });
  return { app, close: () => connection.close() };
}

/**
 * The types of arrays are read once, by `model`. Each client would do so by itself, in the background, where a connection
 * that breaks meanwhile ends the process.
 */
function withTypesOf(model: postgres.Sql, client: postgres.Sql): postgres.Sql {
  const [from, to] = [model, client].map(({ options }) => options as unknown as DriverTypes);
  Object.assign(to!.parsers, from!.parsers);
  Object.assign(to!.serializers, from!.serializers);
  Object.assign(to!.shared.typeArrayMap, from!.shared.typeArrayMap);
  return client;
}

/** Where the driver keeps them. */
interface DriverTypes {
  parsers: Record<number, unknown>;
  serializers: Record<number, unknown>;
  shared: { typeArrayMap: Record<number, number> };
}

function jsonText(value: unknown): string {
  return typeof value === "string" && isObjectOrList(value) ? value : JSON.stringify(value);
}

function isObjectOrList(text: string): boolean {
  if (!/^\s*[[{]/.test(text)) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Classes of SQLSTATE that PostgreSQL or PostgREST define; the others are a migration's own. */
const KNOWN_CLASSES = /^(0[0-9A-Z]|[1-5][0-9A-Z]|F0|HV|P0|XX|PT|PG)/;

/**
 * @supabase/lite answers an error of its own (500, code `SUP`) for an `errcode` that it does not know, where PostgREST answers 400
 * with that code. Raised in the form that both understand, it gets through.
 */
function showOwnErrcodes(connection: { normalizeDbError(error: unknown): unknown }): void {
  const normalize = connection.normalizeDbError.bind(connection);
  connection.normalizeDbError = (thrown) => {
    const error = normalize(thrown);
    if (!(error instanceof postgres.PostgresError) || KNOWN_CLASSES.test(error.code)) return error;
    const { code, message, detail: details, hint } = error;
    return Object.assign(new Error(message), {
      code: "PGRST",
      message: JSON.stringify({ code, message, details, hint }),
      detail: JSON.stringify({ status: 400, headers: {} }),
    });
  };
}
