/** `/rest/v1` and `/auth/v1`: @supabase/lite embedded over the local cluster. */
import { App } from "@supabase/lite";
import { createPostgresConnection } from "@supabase/lite/postgres";
import postgres from "postgres";

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

/** Starts it. The schema is read once, here: call this after the migrations. */
export async function startApi(options: ApiOptions): Promise<Api> {
  const owner = createApp(options.superuserUrl, options.keys);
  await owner.app.ensureSystemSchema();
  await owner.close();
  const superuser = postgres(options.superuserUrl, { max: 1 });
  await superuser.unsafe(`
    grant select, insert, update, delete on all tables in schema auth to postgres;
    grant usage on all sequences in schema auth to postgres;
  `).simple();
  await superuser.end();

  const { app, close } = createApp(options.databaseUrl, options.keys);
  await app.init();
  return { fetch: (request, peerAddress) => app.fetch(request, { peerAddress }), close };
}

function createApp(url: string, keys: ApiOptions["keys"]) {
  const connection = createPostgresConnection({
    url,
    postgresOptions: { max: CONNECTIONS, onnotice: () => {} },
  });
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
