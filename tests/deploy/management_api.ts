import { sha256Of } from "../../shared/runtime/sha256.ts";

/**
 * Supabase's Management API on the loopback interface: as much of it as `supabase` 3.1.0 asks for when it deploys, and
 * with the same effects (a function's version counts up; secrets come back as digests).
 */
export interface Upload {
  slug: string;
  /** Path below the project's root, with `/`, as the CLI named it. */
  files: Map<string, string>;
  metadata: {
    entrypoint_path: string;
    import_map_path?: string;
    verify_jwt?: boolean;
    static_patterns?: string[];
    name?: string;
  };
}

interface LiveFunction {
  id: string;
  version: number;
  upload: Upload;
}

export interface ManagementApi {
  url: string;
  ref: string;
  /** Every request, `METHOD /path?query`. */
  requests: string[];
  /** Every upload, in order. */
  uploads: Upload[];
  /** What is live. */
  functions: Map<string, LiveFunction>;
  secrets: Map<string, string>;
  /** Answers `status` to the requests whose line in `requests` has this text in it; undefined ends it. */
  fail(part: string | undefined, status?: number, message?: string): void;
  stop(): Promise<void>;
}

export interface ManagementApiOptions {
  ref: string;
  name: string;
  accessToken: string;
  /** Told to a token that may reveal it; without it there is none. */
  secretKey?: string;
  /** Runs a query of `db query` on the project's database. */
  query?: (sql: string) => Promise<unknown[]>;
}

export function startManagementApi(options: ManagementApiOptions): ManagementApi {
  const { ref, name, accessToken } = options;
  const requests: string[] = [];
  const uploads: Upload[] = [];
  const functions = new Map<string, LiveFunction>();
  const secrets = new Map<string, string>();
  let failure: { part: string; status: number; message: string } | undefined;

  const routes: Record<string, (request: Request, url: URL) => Promise<Response> | Response> = {
    [`GET /v1/projects/${ref}`]: () => Response.json(projectFields(ref, name)),
    [`GET /v1/projects/${ref}/api-keys`]: (_request, url) =>
      Response.json(
        options.secretKey === undefined ? [] : [{
          id: "11111111-1111-4111-8111-111111111111",
          name: "default",
          type: "secret",
          prefix: options.secretKey.slice(0, 10),
          api_key: url.searchParams.get("reveal") === "true"
            ? options.secretKey
            : `${options.secretKey.slice(0, 10)}...`,
        }],
      ),
    [`GET /v1/projects/${ref}/functions`]: () => Response.json([...functions.values()].map(functionFields)),
    [`POST /v1/projects/${ref}/functions/deploy`]: async (request, url) => {
      const upload = await readUpload(request, url.searchParams.get("slug")!);
      uploads.push(upload);
      const before = functions.get(upload.slug);
      const live = { id: before?.id ?? crypto.randomUUID(), version: (before?.version ?? 0) + 1, upload };
      functions.set(upload.slug, live);
      return Response.json(functionFields(live), { status: 201 });
    },
    // Several at once are uploaded one by one, and go into service together.
    [`PUT /v1/projects/${ref}/functions`]: async (request) => {
      const wanted: { slug: string }[] = await request.json();
      return Response.json({ functions: wanted.map(({ slug }) => functionFields(functions.get(slug)!)) });
    },
    [`DELETE /v1/projects/${ref}/secrets`]: async (request) => {
      for (const name of await request.json()) secrets.delete(name);
      return new Response(null, { status: 200 });
    },
    [`GET /v1/projects/${ref}/secrets`]: async () =>
      Response.json(
        await Promise.all([...secrets].map(async ([secret, value]) => ({
          name: secret,
          value: await sha256Of(value),
          updated_at: "2026-01-01T00:00:00.000Z",
        }))),
      ),
    [`POST /v1/projects/${ref}/secrets`]: async (request) => {
      const wanted: { name: string; value: string }[] = await request.json();
      for (const { name, value } of wanted) secrets.set(name, value);
      return new Response(null, { status: 201 });
    },
    [`POST /v1/projects/${ref}/database/query`]: async (request) => {
      const { query } = await request.json();
      try {
        return Response.json(await options.query!(query), { status: 201 });
      } catch (error) {
        return Response.json({ message: `Failed to run sql query: ERROR: ${(error as Error).message}` }, {
          status: 400,
        });
      }
    },
  };

  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const url = new URL(request.url);
    const line = `${request.method} ${url.pathname}${url.search}`;
    requests.push(line);
    const errorResponse = async (status: number, message: string) => {
      await request.body?.cancel();
      return Response.json({ message }, { status });
    };
    if (request.headers.get("authorization") !== `Bearer ${accessToken}`) {
      return errorResponse(401, "Unauthorized");
    }
    if (failure && line.includes(failure.part)) return errorResponse(failure.status, failure.message);
    const deleted = new RegExp(`^DELETE /v1/projects/${ref}/functions/([\\w-]+)$`).exec(line)?.[1];
    if (deleted !== undefined && functions.delete(deleted)) return new Response(null, { status: 200 });
    const route = routes[`${request.method} ${url.pathname}`];
    return route ? await route(request, url) : await errorResponse(404, "Not Found");
  });

  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    ref,
    requests,
    uploads,
    functions,
    secrets,
    fail(part, status = 500, message = "Something is wrong here") {
      failure = part === undefined ? undefined : { part, status, message };
    },
    stop: () => server.shutdown(),
  };
}

async function readUpload(request: Request, slug: string): Promise<Upload> {
  const form = await request.formData();
  const files = new Map<string, string>();
  for (const file of form.getAll("file")) {
    if (!(file instanceof File)) throw new Error("A file of the upload is not a file.");
    if (files.has(file.name)) throw new Error(`${file.name} came twice.`);
    files.set(file.name, await file.text());
  }
  const metadata = form.get("metadata")!;
  return {
    slug,
    files,
    metadata: JSON.parse(typeof metadata === "string" ? metadata : await metadata.text()),
  };
}

function projectFields(ref: string, name: string) {
  return {
    id: ref,
    ref,
    name,
    organization_id: "organization",
    organization_slug: "organization",
    region: "eu-central-1",
    created_at: "2026-01-01T00:00:00.000Z",
    status: "ACTIVE_HEALTHY",
    database: {
      host: `db.${ref}.supabase.co`,
      version: "17.4.1",
      postgres_engine: "17",
      release_channel: "ga",
    },
  };
}

function functionFields({ id, version, upload }: LiveFunction) {
  const { slug } = upload;
  return {
    id,
    slug,
    name: slug,
    status: "ACTIVE",
    version,
    created_at: 1,
    updated_at: 1,
    verify_jwt: upload.metadata.verify_jwt,
    import_map: upload.metadata.import_map_path !== undefined,
    entrypoint_path: upload.metadata.entrypoint_path,
    import_map_path: upload.metadata.import_map_path,
    ezbr_sha256: `${slug}-${version}`,
  };
}
