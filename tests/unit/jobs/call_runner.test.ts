import { describe, expect, test } from "vitest";
import type { Caller } from "../../../shared/contract/caller.ts";
import type { ErrorCode } from "../../../shared/contract/errors.ts";
import type { Gateway } from "../../../shared/contract/gateway.ts";
import { GatewayError, type GatewayErrorFields } from "../../../shared/contract/gateway_error.ts";
import type { GatewayRequest } from "../../../shared/contract/request.ts";
import type { ClaimedJob } from "../../../shared/database/jobs/job_leases.ts";
import { nativeEndpoint } from "../../../shared/endpoints/native/endpoint.ts";
import { openaiEndpoint } from "../../../shared/endpoints/openai/endpoint.ts";
import { callRunner } from "../../../shared/jobs/call_runner.ts";
import { systemClock as clock } from "../../../shared/runtime/clock.ts";
import { resultOfText } from "./result_of_text.ts";

const JOB: ClaimedJob = {
  id: "0b7c0b3e-5a43-4b1c-9d0c-2f6c31d4a001",
  kind: "llm",
  class: "batch",
  request_id: "mine",
  models: ["m"],
  body: { path: "/", body: { model: "m", prompt: "Two and two?" } },
  body_media: null,
  lease_token: "token",
  tries: 1,
  losses: 0,
  expires_at: "2026-11-19T12:00:00Z",
  consumer_id: "c1",
  consumer_name: "bot",
  consumer_kind: "service",
  token_id: null,
  batch_id: null,
  place: null,
  custom_id: null,
  start_every_ms: null,
};

/** A runner whose gateway answers as it is told, call by call. */
function runner(...answers: (string | GatewayError)[]) {
  const asked: { request: GatewayRequest; caller: Caller }[] = [];
  const gateway = {
    invoke(request: GatewayRequest, { caller }: { caller: Caller }) {
      asked.push({ request, caller });
      const answer = answers.shift()!;
      return typeof answer === "string"
        ? Promise.resolve(resultOfText(request, answer))
        : Promise.reject(answer);
    },
  } as unknown as Gateway;
  const run = callRunner({
    endpoints: [
      nativeEndpoint({ maxWaitMs: 100_000 }),
      openaiEndpoint({ maxWaitMs: 100_000, clock, fetch, now: () => 0, newId: () => "id" }),
    ],
    gateway,
    resolve: (target) =>
      Promise.resolve({
        models: target.kind === "models" ? target.models : [],
        excludeKeys: [],
        stage: null,
      }),
    maxBodyBytes: 1_000_000,
    maxWaitMs: 100_000,
    clock,
    newId: () => "http",
    log: () => {},
  });
  const abort = new AbortController();
  return {
    asked,
    abort,
    run: (job: Partial<ClaimedJob> = {}) =>
      run({ ...JOB, ...job }, { signal: abort.signal, progress: () => {} }),
  };
}
const error = (code: ErrorCode, fields: GatewayErrorFields = {}) => new GatewayError(code, fields);

describe("a job's call", () => {
  test("is made in its caller's name, by the job's id, in its class, and answered as a client would be", async () => {
    const { run, asked } = runner("Four.");
    expect(await run()).toMatchObject({ kind: "done", result: { status: 200, body: { text: "Four." } } });
    expect(asked).toMatchObject([{
      request: { id: JOB.id, idIsClients: true, class: "batch", models: ["m"], maxWaitMs: 100_000 },
      caller: { kind: "service", consumerId: "c1", tokenId: null, name: "bot" },
    }]);
  });

  test("is any endpoint's", async () => {
    const { run, asked } = runner("Four.");
    const outcome = await run({
      body: {
        path: "/openai/v1/chat/completions",
        body: { model: "m", messages: [{ role: "user", content: "Two and two?" }] },
      },
    });
    expect(outcome).toMatchObject({
      kind: "done",
      result: { status: 200, body: { choices: [{ message: { content: "Four." } }] } },
    });
    expect(asked[0]!.request).toMatchObject({
      id: JOB.id,
      idIsClients: true,
      class: "batch",
      maxWaitMs: 100_000,
    });
  });

  test.each([[1, 0], [1, 1], [1, 3], [2, 0], [3, 2]])(
    "is made by the job's id in its run number %i, after %i workers died with it: what they were answered is found",
    async (tries, losses) => {
      const { run, asked } = runner("Four.");
      expect(await run({ tries, losses })).toMatchObject({ kind: "done" });
      expect(asked.map(({ request }) => request.id)).toEqual([JOB.id]);
    },
  );

  test("whose earlier runs ended without an answer is another request", async () => {
    const { run, asked } = runner(error("request_finished"), error("request_finished"), "Four.");
    expect(await run()).toMatchObject({ kind: "done" });
    expect(asked.map(({ request }) => request.id)).toEqual([JOB.id, `${JOB.id}.2`, `${JOB.id}.3`]);
  });

  test.each([
    ["a lane that is full for long", error("rate_limited", { retryAfterMs: 108_000 }), {
      kind: "unspent",
      pauseMs: 8_000,
    }],
    ["a start that is near", error("rate_limited", { retryAfterMs: 1_000 }), {
      kind: "unspent",
      pauseMs: 250,
    }],
    ["a day's budget", error("budget_exhausted", { retryAfterMs: 3_600_000 }), { kind: "unspent" }],
    ["a budget for good", error("budget_exhausted"), {
      kind: "failed",
      failure: { code: "budget_exhausted" },
    }],
    ["a run that may still go on", error("request_running"), { kind: "unspent", delayMs: 15_000 }],
    ["the end of the worker's time", error("deadline_exceeded"), { kind: "unspent" }],
    ["upstream's failure", error("upstream_unavailable"), { kind: "failed", failure: { retryable: true } }],
    [
      "a block",
      error("content_blocked"),
      {
        kind: "failed",
        failure: { retryable: false, result: { status: 422, body: { error: { code: "content_blocked" } } } },
      },
    ],
  ])("after %s", async (_, thrown, outcome) => {
    expect(await runner(thrown).run()).toMatchObject(outcome);
  });

  test("that was broken off is given back", async () => {
    const { run, abort } = runner(error("client_closed"));
    abort.abort();
    expect(await run()).toEqual({ kind: "unspent" });
  });

  test("that nobody could serve is a failure in words", async () => {
    expect(await runner().run({ body: { path: "/nowhere", body: {} } })).toMatchObject({
      kind: "failed",
      failure: { code: "not_found", retryable: false },
    });
  });
});
