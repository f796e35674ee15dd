/** The gateway benchmark's arithmetic, and the little HTTP client that its load is made with. */
import { describe, expect, test } from "vitest";
import { addedBy, markdown, measured, ratiosTo } from "../../../bench/gateway/figures.ts";
import { Connection, requestBytes } from "../../../bench/gateway/http_client.ts";
import { closedLoop, openLoop, type Turn } from "../../../bench/gateway/load.ts";
import { until } from "../../harness/patience.ts";

const turn = (times: number[], failed = 0): Turn => ({
  calls: [...times.map((ms) => ({ ms, ok: true })), ...Array(failed).fill({ ms: NaN, ok: false })],
  ms: 1_000,
});
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1);

describe("figures", () => {
  test("a turn that was spoilt does not spoil the figure", () => {
    const spoilt = turn(upTo(100).map((ms) => ms * 50));
    expect(measured([turn(upTo(100)), spoilt, turn(upTo(100))])).toEqual({
      calls: 300,
      failed: 0,
      per_second: 100,
      p50_ms: 51,
      p99_ms: 100,
    });
  });

  test("turns too short for a p99 are taken as one, and failures have no time", () => {
    expect(measured([turn(upTo(50), 2), turn(upTo(50).map((ms) => ms + 50))])).toMatchObject({
      calls: 102,
      failed: 2,
      p50_ms: 51,
      p99_ms: 100,
    });
  });

  test("what is added, over what another adds", () => {
    const row = (p50_ms: number, p99_ms: number) => ({ calls: 1, failed: 0, per_second: 1, p50_ms, p99_ms });
    const matrix = { one: { straight: row(50, 60), eve: row(51, 62), portkey: row(52, 59) } };
    const added = addedBy(matrix);
    expect(added).toEqual({ one: { eve: { p50_ms: 1, p99_ms: 2 }, portkey: { p50_ms: 2, p99_ms: -1 } } });
    const ratios = ratiosTo(added, "portkey");
    // A floor that is lost in the noise divides nothing.
    expect(ratios).toEqual({ one: { eve: { p50: 0.5, p99: null } } });
    expect(markdown(ratios, ["eve", "none"], ({ p50 }) => String(p50))).toBe(
      "| scenario | eve | none |\n| --- | --- | --- |\n| `one` | 0.5 |  |",
    );
  });
});

describe("the load", () => {
  const serve = (handler: (request: Request) => Response | Promise<Response>) =>
    Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, handler);
  const at = (server: Deno.HttpServer<Deno.NetAddr>) => ({
    url: `http://127.0.0.1:${server.addr.port}/v1?x=1`,
    headers: { authorization: "Bearer key" },
    body: { text: "Hello" },
  });

  test("calls arrive whole, one after the other on one connection", async () => {
    const seen: unknown[] = [];
    await using server = serve(async (request) => {
      seen.push([new URL(request.url).search, request.headers.get("authorization"), await request.json()]);
      return new Response("an answer");
    });
    const target = at(server);
    const connection = await Connection.to(target.url);
    for (let n = 0; n < 2; n++) {
      expect(await connection.call(requestBytes(target))).toMatchObject({ ok: true });
    }
    connection.close();
    expect(seen).toEqual(Array(2).fill(["?x=1", "Bearer key", { text: "Hello" }]));
  });

  test("a stream's time is that of its words, and one without them has failed", async () => {
    let time = 0;
    let looks = 0;
    const now = () => (looks++, time);
    const words = async function* (last: string, mayEnd: () => boolean) {
      yield new TextEncoder().encode("data: {}\n\n");
      yield new TextEncoder().encode(`data: ${last}\n\n`);
      await until(mayEnd, "nobody took the time of the words");
      time = 60;
      yield new TextEncoder().encode("data: [DONE]\n\n");
    };
    let answer = () => words("Concert", () => looks === 2);
    await using server = serve(() => new Response(ReadableStream.from(answer())));
    const target = at(server);
    const connection = await Connection.to(target.url, now);
    expect(await connection.call(requestBytes(target), "Concert")).toEqual({ ms: 0, ok: true });
    answer = () => words("Sorry", () => true);
    expect(await connection.call(requestBytes(target), "Concert")).toMatchObject({ ok: false });
    connection.close();
  });

  test("an open loop calls on time however slow the answers are; a closed one waits for them", async () => {
    const waiting: (() => void)[] = [];
    let time = 0;
    let atOnce = 20;
    // Nobody is answered before so many wait.
    await using server = serve(async () => {
      const answered = new Promise<void>((resolve) => waiting.push(resolve));
      expect(waiting.length).toBeLessThanOrEqual(atOnce);
      if (waiting.length === atOnce) {
        time += 100;
        for (const answer of waiting.splice(0)) answer();
      }
      await answered;
      return new Response("late");
    });
    const open = await openLoop(at(server), 100, 200);
    expect([open.calls.length, open.calls.every(({ ok }) => ok)]).toEqual([20, true]);
    atOnce = 2;
    time = 0;
    const closed = await closedLoop(at(server), 2, 150, () => time);
    expect(closed).toEqual({ calls: Array(4).fill({ ms: 100, ok: true }), ms: 200 });
  });

  test("what cannot be reached is counted as failed", async () => {
    const server = serve(() => new Response("gone", { status: 503 }));
    const target = at(server);
    const refused = await closedLoop(target, 1, 20);
    expect(refused.calls.every(({ ok }) => !ok)).toBe(true);
    await server.shutdown();
  });
});
