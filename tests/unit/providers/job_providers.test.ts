/** Providers of speech, songs and videos, each against a fake of its API. */
import { describe, expect, test } from "vitest";
import { pikaProvider } from "../../../shared/providers/pika.ts";
import { ProviderFailure } from "../../../shared/providers/provider.ts";
import { speechKitProvider } from "../../../shared/providers/yandex/speechkit.ts";
import { sunoProvider } from "../../../shared/providers/suno.ts";
import { asFetch } from "../../fakes/fake_api.ts";
import { fakeFal, fakeSpeechKit, fakeSuno, SPOKEN } from "../../fakes/job_apis.ts";

const now = () => 1_760_000_000_000;
const signal = new AbortController().signal;
const submission = (model: string, secret: string, more: Record<string, unknown> = {}) => ({
  model,
  secret,
  text: "Шумит ноябрьское море",
  options: {},
  callbackUrl: "https://project.test/callback",
  signal,
  ...more,
});
const failureOf = async (promise: Promise<unknown>): Promise<ProviderFailure> => {
  const thrown = await promise.then(() => null, (error) => error);
  expect(thrown).toBeInstanceOf(ProviderFailure);
  return thrown;
};

describe("SpeechKit", () => {
  const fake = fakeSpeechKit();
  const provider = speechKitProvider({ baseUrl: "https://tts.test", fetch: asFetch(fake.handler), now });

  test("answers with the file, by the voice in the place of a model", async () => {
    const made = await provider.jobs!.submit(
      submission("speechkit/alena", "AQVN-voice", { options: { speed: 1.1, temperature: 0.3 } }),
    );
    expect(made).toEqual({
      state: "succeeded",
      files: [{ url: null, mimeType: "audio/mpeg", content: SPOKEN }],
      expiresAt: now() + 7 * 86_400_000,
    });
    expect(fake.seen.at(-1)).toEqual({
      text: "Шумит ноябрьское море",
      voice: "alena",
      format: "mp3",
      lang: "ru-RU",
      speed: "1.1",
    });
  });

  test("knows a good key without paying, and a bad one", async () => {
    const spoken = fake.seen.length;
    await provider.checkKey({ secret: "AQVN-voice", signal });
    expect(fake.seen).toHaveLength(spoken);
    expect((await failureOf(provider.checkKey({ secret: "wrong", signal }))).diagnosis).toMatchObject({
      fault: "key",
    });
    expect((await failureOf(provider.jobs!.submit(submission("speechkit/alena", "wrong")))).diagnosis)
      .toMatchObject({ fault: "key" });
  });

  test("refuses what is too long before it is sent", async () => {
    expect(
      (await failureOf(
        provider.jobs!.submit(submission("speechkit/alena", "AQVN-voice", { text: "а".repeat(5_001) })),
      )).diagnosis.code,
    )
      .toBe("prompt_too_large");
    expect(await provider.listModels({ secret: "AQVN-voice", signal })).toContain("alena");
  });

  test("makes no text", () => {
    expect(provider.text).toBeUndefined();
    expect(provider.embeddings).toBeUndefined();
  });
});

describe("Suno", () => {
  const fake = fakeSuno();
  const provider = sunoProvider({ baseUrl: "https://suno.test", fetch: asFetch(fake.handler), now });
  const poll = (upstreamId: string) =>
    provider.jobs!.poll({ model: "suno/V5", secret: "suno-good", upstreamId, signal });

  test("takes a song, goes on, and has it with its end", async () => {
    expect(await provider.jobs!.submit(submission("suno/V5", "suno-good"))).toEqual({
      state: "running",
      upstreamId: "task-1",
    });
    expect(fake.seen.at(-1)).toEqual({
      prompt: "Шумит ноябрьское море",
      customMode: false,
      instrumental: false,
      model: "V5",
      callBackUrl: "https://project.test/callback",
    });
    for (const status of ["PENDING", "TEXT_SUCCESS", "FIRST_SUCCESS"]) {
      fake.tasks.set("task-1", { status });
      expect(await poll("task-1")).toEqual({ state: "running", upstreamId: "task-1" });
    }
    for (const status of ["SUCCESS", "CALLBACK_EXCEPTION"]) {
      fake.tasks.set("task-1", { status });
      expect(await poll("task-1")).toEqual({
        state: "succeeded",
        files: [1, 2].map((n) => ({
          url: `https://cdn.suno.test/task-1-${n}.mp3`,
          mimeType: "audio/mpeg",
          title: "Ноябрь",
          durationS: 198.44,
        })),
        expiresAt: now() + 15 * 86_400_000,
      });
    }
  });

  test("sings the text as it is where style and title are given", async () => {
    await provider.jobs!.submit(
      submission("suno/V5", "suno-good", { options: { style: "romance", title: "Море", temperature: 1 } }),
    );
    expect(fake.seen.at(-1)).toMatchObject({ customMode: true, style: "romance", title: "Море" });
    expect(fake.seen.at(-1)).not.toHaveProperty("temperature");
  });

  test("reports what failed, and of what is filtered that it is", async () => {
    fake.tasks.set("bad", { status: "GENERATE_AUDIO_FAILED", errorMessage: "out of tune" });
    expect(await poll("bad")).toEqual({ state: "failed", code: "answer_unusable", reason: "out of tune" });
    fake.tasks.set("rude", { status: "SENSITIVE_WORD_ERROR" });
    expect(await poll("rude")).toMatchObject({ state: "failed", code: "content_blocked" });
  });

  test("reads errors that come with status 200", async () => {
    await provider.checkKey({ secret: "suno-good", signal });
    expect((await failureOf(provider.checkKey({ secret: "wrong", signal }))).diagnosis).toMatchObject({
      fault: "key",
      block: { reason: "key_invalid" },
    });
    fake.keys.set("suno-poor", 0);
    expect((await failureOf(provider.jobs!.submit(submission("suno/V5", "suno-poor")))).diagnosis)
      .toMatchObject({ block: { reason: "credits_depleted" } });
    expect(
      (await failureOf(provider.jobs!.submit(submission("suno/V5", "suno-good", { text: "a".repeat(501) }))))
        .diagnosis.code,
    ).toBe("prompt_too_large");
    expect((await failureOf(provider.jobs!.submit(submission("suno/V1", "suno-good")))).diagnosis)
      .toMatchObject({ fault: "caller" });
  });
});

describe("Pika", () => {
  const fake = fakeFal();
  const provider = pikaProvider({ baseUrl: "https://queue.test", fetch: asFetch(fake.handler), now });
  const model = "pika/fal-ai/pika/v2.2/text-to-video";
  const secret = "fal-id:fal-secret";
  const begin = async () => {
    const begun = await provider.jobs!.submit(
      submission(model, secret, { options: { duration: 5, resolution: "720p", voice: "x" } }),
    );
    if (begun.state !== "running") throw new Error(begun.state);
    return begun.upstreamId;
  };
  const poll = (upstreamId: string) => provider.jobs!.poll({ model, secret, upstreamId, signal });

  test("takes a video, waits in the queue, and has it for a week", async () => {
    const id = await begin();
    expect(fake.seen.at(-1)).toEqual({
      body: { prompt: "Шумит ноябрьское море", duration: 5, resolution: "720p" },
      lifecycle: '{"expiration_duration_seconds":604800}',
    });
    for (const status of ["IN_QUEUE", "IN_PROGRESS"]) {
      fake.requests.set(id, { status });
      expect(await poll(id)).toEqual({ state: "running", upstreamId: id });
    }
    fake.requests.set(id, {
      status: "COMPLETED",
      result: { video: { url: "https://v3.fal.media/sea.mp4", content_type: "video/mp4" } },
    });
    expect(await poll(id)).toEqual({
      state: "succeeded",
      files: [{ url: "https://v3.fal.media/sea.mp4", mimeType: "video/mp4" }],
      expiresAt: now() + 604_800_000,
    });
  });

  test("reports what failed, and of what is filtered that it is", async () => {
    const id = await begin();
    const detail = [{
      loc: ["body", "prompt"],
      msg: "The content could not be processed.",
      type: "content_policy_violation",
    }];
    fake.requests.set(id, { status: "COMPLETED", result: { detail }, resultStatus: 422 });
    expect(await poll(id)).toMatchObject({ state: "failed", code: "content_blocked" });
    fake.requests.set(id, { status: "COMPLETED", result: {} });
    expect(await poll(id)).toMatchObject({ state: "failed", code: "answer_unusable" });
    expect((await failureOf(poll("gone"))).diagnosis.fault).toBe("key_model");
  });

  test("knows a good key, a bad one, and one without credit", async () => {
    await provider.checkKey({ secret, signal });
    expect((await failureOf(provider.checkKey({ secret: "wrong", signal }))).diagnosis).toMatchObject({
      fault: "key",
    });
    fake.keys.set("poor:key", "locked");
    expect((await failureOf(provider.jobs!.submit(submission(model, "poor:key")))).diagnosis).toMatchObject({
      block: { reason: "credits_depleted" },
    });
    expect((await failureOf(provider.jobs!.submit(submission("pika/fal-ai/sora", secret)))).diagnosis)
      .toMatchObject({ code: "model_unavailable" });
  });
});
