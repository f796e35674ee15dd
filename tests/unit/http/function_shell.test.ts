import { describe, expect, test } from "vitest";
import { createAdminEndpoint } from "../../../shared/admin/admin_endpoint.ts";
import { createApiEndpoint } from "../../../shared/api/api_endpoint.ts";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import { createRouter } from "../../../shared/endpoints/router.ts";
import {
  createFunction,
  type FunctionOptions,
  type FunctionShell,
} from "../../../shared/http/function_shell.ts";
import { createTokenEndpoint } from "../../../shared/identity/token_endpoint.ts";
import { createWorkerEndpoint } from "../../../shared/jobs/worker_endpoint.ts";
import { createMaintenanceRouter } from "../../../shared/maintenance/router.ts";
import { systemClock as clock } from "../../../shared/runtime/clock.ts";

const ID = "00000000-0000-4000-8000-000000000000";

function options<Dependencies>(functionName: string, open: () => Dependencies | Promise<Dependencies>) {
  const logged: [string, string, Record<string, unknown>][] = [];
  const given: FunctionOptions<Dependencies> = {
    functionName,
    open,
    clock,
    newId: () => ID,
    log: (...line) => void logged.push(line),
  };
  return { given, logged };
}

/** A function whose routes are these. */
function functionOf(
  routes: FunctionShell<object>["routes"],
  shell: Partial<FunctionShell<object>> = {},
  open: () => object | Promise<object> = () => ({}),
) {
  const { given, logged } = options("f", open);
  const receive = createFunction(given, { maxBodyBytes: 100, routes, ...shell });
  return {
    logged,
    receive: (path = "/f", init: RequestInit = {}) => receive(new Request(`http://gateway${path}`, init)),
  };
}

// deno-lint-ignore no-explicit-any -- dependencies that no test here comes to
const broken = (): any => {
  throw new TypeError("cannot read eve.lanes of undefined");
};

describe.each(
  [
    ["llm-invoke", createRouter],
    ["api", createApiEndpoint],
    ["issue-kaggle-token", createTokenEndpoint],
    ["maintenance", createMaintenanceRouter],
    ["worker", createWorkerEndpoint],
    // deno-lint-ignore no-explicit-any -- as above
    ["admin", (given: FunctionOptions<any>) => createAdminEndpoint({ ...given, origins: () => [] })],
  ] as const,
)("%s", (name, create) => {
  test("what nobody foresaw is a fixed 500, and one line of the log", async () => {
    const { given, logged } = options(name, broken);
    const response = await create(given)(
      new Request(`http://gateway/${name}`, {
        method: "POST",
        headers: { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" },
      }),
    );
    expect(response.status).toBe(500);
    expect(response.headers.get("x-eve-request-id")).toBe(ID);
    expect(response.headers.get("traceresponse")).toMatch(/^00-0af7651916cd43dd8448eb211c80319c-/);
    expect(await response.text()).not.toContain("lanes");
    expect(logged).toEqual([["error", "request_ended", {
      request_id: ID,
      trace_id: "0af7651916cd43dd8448eb211c80319c",
      span_id: expect.any(String),
      parent_span_id: "b7ad6b7169203331",
      "http.response.status_code": 500,
      "error.type": "internal",
      "eve.outcome": "failed",
      "eve.duration_ms": expect.any(Number),
      detail: "TypeError: cannot read eve.lanes of undefined",
    }]]);
  });

  test("dependencies that could not be made are tried again by the next request", async () => {
    let opened = 0;
    const { given } = options(name, () => {
      opened++;
      return broken();
    });
    const receive = create(given);
    for (let n = 0; n < 3; n++) await receive(new Request(`http://gateway/${name}`, { method: "POST" }));
    expect(opened).toBe(3);
  });
});

test("requests that come while the dependencies are being made share them", async () => {
  const ready = Promise.withResolvers<object>();
  let opened = 0;
  const { receive } = functionOf((app) => app.all("/", () => new Response("here")), {}, () => {
    opened++;
    return ready.promise;
  });
  const answers = [receive(), receive()];
  ready.resolve({});
  expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200]);
  await receive();
  expect(opened).toBe(1);
});

test.each([
  ["a GatewayError", () => new GatewayError("rate_limited"), 429, "rate_limited"],
  ["an error", () => new RangeError("inside"), 500, "internal"],
  ["no error at all", () => "inside", 500, "internal"],
])("%s that a route throws is answered, and logged once", async (_, thrown, status, code) => {
  const { receive, logged } = functionOf((app) =>
    app.all("/x", () => {
      throw thrown();
    })
  );
  const response = await receive("/f/x");
  expect(response.status).toBe(status);
  expect((await response.json()).error).toMatchObject({ code, request_id: ID });
  expect(logged).toHaveLength(1);
  expect(logged[0]![2]).toMatchObject({ "error.type": code, "eve.outcome": "failed" });
});

test("a body above the cap is refused, as bytes and as JSON", async () => {
  const { receive } = functionOf((app) => {
    app.post("/bytes", async ({ env }) => new Response(String((await env.readBytes()).byteLength)));
    app.post("/json", async ({ env }) => {
      const work = env.beginWork("caller");
      try {
        return Response.json(await env.readJson(work));
      } finally {
        work.end();
      }
    });
  });
  for (const path of ["/f/bytes", "/f/json"]) {
    const [small, large] = [JSON.stringify("x".repeat(98)), JSON.stringify("x".repeat(99))];
    expect.soft((await receive(path, { method: "POST", body: small })).status, path).toBe(200);
    expect.soft((await receive(path, { method: "POST", body: large })).status, path).toBe(413);
  }
});

test("a preflight is answered without dependencies; where no page may call it is a method like any other", async () => {
  const preflight = { method: "OPTIONS" };
  expect((await functionOf(() => {}, {}, broken).receive("/f", preflight)).status).toBe(204);
  expect((await functionOf(() => {}, { cors: null }).receive("/f", preflight)).status).toBe(404);
});

test("a part of a path that is no text in UTF-8 is taken as it is", async () => {
  const { receive, logged } = functionOf((app) =>
    app.get("/jobs/:id", ({ req }) => new Response(req.param("id")))
  );
  expect(await (await receive("/f/jobs/%zz")).text()).toBe("%zz");
  expect(await (await receive("/f/jobs/a%2Fb")).text()).toBe("a/b");
  expect(logged).toHaveLength(2);
});

test("an administrator's %zz is a job that does not exist, with a line of the log", async () => {
  const { given, logged } = options("admin", () => ({
    identify: () => Promise.resolve({ kind: "project", id: null, email: null, name: "project" }),
    // deno-lint-ignore no-explicit-any -- nothing else of it is touched
  } as any));
  const receive = createAdminEndpoint({ ...given, origins: () => [] });
  const response = await receive(new Request("http://gateway/admin/jobs/%zz"));
  expect(response.status).toBe(404);
  expect(logged.map(([level, message]) => [level, message])).toEqual([["info", "request_ended"]]);
});
