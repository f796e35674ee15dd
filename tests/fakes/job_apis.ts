/** SpeechKit, Suno (sunoapi.org) and fal.ai's queue as their references document them; each refuses what the real one refuses. */
import { bodyOf, type Handler } from "./fake_api.ts";

export interface FakeSpeechKit {
  keys: Set<string>;
  seen: Record<string, string>[];
  handler: Handler;
}

/** Bytes that are no MP3, and are told apart. */
export const SPOKEN = new TextEncoder().encode("ID3 spoken");

export function fakeSpeechKit(): FakeSpeechKit {
  const fake: FakeSpeechKit = {
    keys: new Set(["AQVN-voice"]),
    seen: [],
    async handler(request) {
      const errorResponse = (status: number, error_code: string, error_message: string) =>
        Response.json({ error_code, error_message }, { status });
      const key = /^Api-Key (\S+)$/.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
      if (!fake.keys.has(key)) return errorResponse(401, "UNAUTHORIZED", "Unknown api key 'AQVN****'");
      if (new URL(request.url).pathname !== "/speech/v1/tts:synthesize") {
        return errorResponse(404, "NOT_FOUND", "Not found");
      }
      const fields = Object.fromEntries(new URLSearchParams(await request.text()));
      if (fields.text === undefined && fields.ssml === undefined) {
        return errorResponse(400, "BAD_REQUEST", "text or ssml should be specified");
      }
      if (fields.text!.length > 5_000) return errorResponse(400, "BAD_REQUEST", "Too long text");
      if (!/^[a-z]+$/.test(fields.voice ?? "")) return errorResponse(400, "BAD_REQUEST", "Unsupported voice");
      if (!["mp3", "oggopus", "lpcm"].includes(fields.format ?? "oggopus")) {
        return errorResponse(400, "BAD_REQUEST", "Unsupported format");
      }
      fake.seen.push(fields);
      return new Response(SPOKEN, { headers: { "content-type": "audio/mpeg" } });
    },
  };
  return fake;
}

export interface FakeSuno {
  keys: Map<string, number>;
  tasks: Map<string, { status: string; errorMessage?: string }>;
  seen: Record<string, unknown>[];
  handler: Handler;
}

export function fakeSuno(): FakeSuno {
  const fake: FakeSuno = {
    keys: new Map([["suno-good", 100]]),
    tasks: new Map(),
    seen: [],
    async handler(request) {
      const said = (code: number, msg: string, data: unknown = null) => Response.json({ code, msg, data });
      const key = /^Bearer (\S+)$/.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
      const credits = fake.keys.get(key);
      if (credits === undefined) return said(401, "You do not have access permissions");
      const url = new URL(request.url);
      if (url.pathname === "/api/v1/generate/credit") return said(200, "success", credits);
      if (url.pathname === "/api/v1/generate/record-info") {
        const taskId = url.searchParams.get("taskId") ?? "";
        const task = fake.tasks.get(taskId);
        if (task === undefined) return said(404, "Task not found");
        const done = ["SUCCESS", "FIRST_SUCCESS", "CALLBACK_EXCEPTION"].includes(task.status);
        const song = (n: number) => ({
          id: `song-${n}`,
          audioUrl: `https://cdn.suno.test/${taskId}-${n}.mp3`,
          streamAudioUrl: `https://cdn.suno.test/${taskId}-${n}`,
          imageUrl: `https://cdn.suno.test/${taskId}-${n}.jpeg`,
          title: "Ноябрь",
          duration: 198.44,
        });
        return said(200, "success", {
          taskId,
          status: task.status,
          response: {
            taskId,
            sunoData: done ? [song(1), ...(task.status === "FIRST_SUCCESS" ? [] : [song(2)])] : null,
          },
          errorCode: null,
          errorMessage: task.errorMessage ?? null,
        });
      }
      if (url.pathname !== "/api/v1/generate" || request.method !== "POST") {
        return Response.json({ code: 404, msg: "Not found" }, { status: 404 });
      }
      const body = await bodyOf(request);
      if (credits === 0) return said(429, "The current credits are insufficient. Please top up.");
      if (!["V3_5", "V4", "V4_5", "V4_5PLUS", "V5"].includes(body?.model)) {
        return said(400, "Please enter model.");
      }
      if (typeof body.callBackUrl !== "string" || !URL.canParse(body.callBackUrl)) {
        return said(400, "Please enter callBackUrl.");
      }
      if (typeof body.customMode !== "boolean" || typeof body.instrumental !== "boolean") {
        return said(400, "Please enter customMode.");
      }
      if (body.customMode && (!body.style || !body.title)) return said(400, "Please enter style and title.");
      if (!body.customMode && String(body.prompt).length > 500) return said(413, "The prompt is too long.");
      fake.seen.push(body);
      const taskId = `task-${fake.seen.length}`;
      fake.tasks.set(taskId, { status: "PENDING" });
      return said(200, "success", { taskId });
    },
  };
  return fake;
}

export interface FakeFal {
  keys: Map<string, "good" | "locked">;
  requests: Map<string, { status: string; result?: unknown; resultStatus?: number }>;
  seen: { body: Record<string, unknown>; lifecycle: string | null }[];
  handler: Handler;
}

export function fakeFal(): FakeFal {
  const fake: FakeFal = {
    keys: new Map([["fal-id:fal-secret", "good"]]),
    requests: new Map(),
    seen: [],
    async handler(request) {
      const key = /^Key (\S+)$/.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
      const kind = fake.keys.get(key);
      if (kind === undefined) {
        return Response.json({ detail: "No user found for Key ID and Secret" }, { status: 401 });
      }
      const { pathname } = new URL(request.url);
      const [, app, id, status] = /^\/([\w-]+\/[\w-]+)\/requests\/([\w-]+)(\/status)?$/.exec(pathname) ?? [];
      if (app !== undefined) {
        const asked = fake.requests.get(id!);
        if (asked === undefined || app !== "fal-ai/pika") {
          return Response.json({ detail: "Request not found" }, { status: 404 });
        }
        if (status !== undefined) {
          const running = asked.status !== "COMPLETED";
          return Response.json({
            status: asked.status,
            request_id: id,
            ...(running && { queue_position: 0 }),
          }, {
            status: running ? 202 : 200,
          });
        }
        if (asked.status !== "COMPLETED") {
          return Response.json({ detail: "Request is still in progress" }, { status: 400 });
        }
        return Response.json(asked.result, { status: asked.resultStatus ?? 200 });
      }
      if (kind === "locked") {
        return Response.json({ detail: "User is locked. Reason: Exhausted balance. Top up your balance." }, {
          status: 403,
        });
      }
      if (!/^\/fal-ai\/pika\/v[\d.]+(\/turbo)?\/text-to-video$/.test(pathname)) {
        return Response.json({ detail: "Application not found" }, { status: 404 });
      }
      const body = await bodyOf(request);
      if (typeof body?.prompt !== "string") {
        return Response.json({
          detail: [{ loc: ["body", "prompt"], msg: "Field required", type: "missing" }],
        }, { status: 422 });
      }
      fake.seen.push({ body, lifecycle: request.headers.get("x-fal-object-lifecycle-preference") });
      const request_id = crypto.randomUUID();
      fake.requests.set(request_id, { status: "IN_QUEUE" });
      const base = `https://queue.fal.run/fal-ai/pika/requests/${request_id}`;
      return Response.json({
        status: "IN_QUEUE",
        request_id,
        response_url: base,
        status_url: `${base}/status`,
        cancel_url: `${base}/cancel`,
        queue_position: 0,
      });
    },
  };
  return fake;
}
