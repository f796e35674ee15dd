/** The database as a store of files is one like every other; its addresses are served by the function `api`. */
import { afterAll, beforeAll, describe } from "vitest";
import { createMediaSpool } from "../../shared/database/media/media_spool.ts";
import { createPostgresStore } from "../../shared/media/postgres/store.ts";
import { createAddressSigner } from "../../shared/media/signed_address.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { apiOver, type ApiUnderTest, SECRET } from "../harness/media_api.ts";
import { behavesAsAnObjectStore } from "../storage/object_store_behaviour.ts";

describe("the database as a store of files", () => {
  let db: TestDatabase;
  let api: ApiUnderTest;
  let server: Deno.HttpServer<Deno.NetAddr>;
  beforeAll(async () => {
    db = await cloneDatabase();
    api = apiOver(db, { maxFileBytes: 1_000_000 });
    api.now.at = Date.now();
    server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
      const { pathname, search } = new URL(request.url);
      const { method, headers } = request;
      const body = method === "GET" ? null : await request.arrayBuffer();
      return await api.call(method, `${pathname}${search}`, { as: null, headers, body });
    });
  });
  afterAll(async () => {
    await server?.shutdown();
    await api?.close();
    await db?.drop();
  });

  behavesAsAnObjectStore(() =>
    Promise.resolve(createPostgresStore({
      spool: createMediaSpool(api.transport.call),
      addresses: createAddressSigner({
        baseUrl: `http://127.0.0.1:${server.addr.port}`,
        secrets: [SECRET],
        now: () => api.now.at,
      }),
      moves: false,
      maxFileBytes: 1_000_000,
      now: () => api.now.at,
    })), {
    // Ours, of docs/errors.md. What is there stays in any case.
    unsigned: 401,
    otherBody: 400,
    longerBody: 413,
    otherType: 400,
    withoutCondition: null,
    again: 200,
  });
});
