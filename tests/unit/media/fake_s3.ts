import type { ObjectStore } from "../../../shared/media/object_store.ts";
import type { S3Abilities } from "../../../shared/media/s3/probe.ts";
import { createS3Store, type S3StoreOptions } from "../../../shared/media/s3/store.ts";
import type { S3Observation } from "../../../shared/media/s3/transport.ts";
import { HandClock } from "../../harness/hand_clock.ts";

export const NOW = Date.parse("2026-11-22T16:40:00Z");
export const SETTINGS = {
  endpoint: "https://s3.example.com",
  region: "ru-central-1",
  bucket: "files",
  accessKeyId: "tenant:AKIAEXAMPLE",
  secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
};
export const ALL: S3Abilities = {
  hashHeader: "x-amz-content-sha256",
  hashBoundPut: true,
  ifNoneMatch: true,
  lifecycle: true,
};

export interface Asked {
  method: string;
  url: URL;
  headers: Headers;
  body: string;
  redirect: RequestRedirect | undefined;
}

export interface FakeS3 {
  store: ObjectStore;
  clock: HandClock;
  asked: Asked[];
  observed: S3Observation[];
}

/** What the store answers, one after the other; the last one again and again. An error is thrown, as by a line that breaks. */
export type Answer = Response | Error | ((asked: Asked) => Response | Promise<Response>);

export function fakeS3(
  answers: Answer | Answer[],
  { random = () => 0.5, ...options }: Partial<S3StoreOptions> & { random?: () => number } = {},
): FakeS3 {
  const list = Array.isArray(answers) ? answers : [answers];
  const clock = new HandClock();
  const asked: Asked[] = [];
  const observed: S3Observation[] = [];
  const memory = { load: () => Promise.resolve(ALL), save: () => Promise.resolve() };
  const store = createS3Store({ ...SETTINGS, maxFileBytes: 1_000_000, memory, ...options }, {
    clock,
    now: () => NOW,
    random,
    observe: (one) => observed.push(one),
    fetch: async (input, init) => {
      const one: Asked = {
        method: init?.method ?? "GET",
        url: new URL(String(input)),
        headers: new Headers(init?.headers),
        body: init?.body ? await new Response(init.body as BodyInit).text() : "",
        redirect: init?.redirect,
      };
      asked.push(one);
      const answer = list[Math.min(asked.length, list.length) - 1]!;
      if (answer instanceof Error) throw answer;
      return typeof answer === "function" ? await answer(one) : answer.clone();
    },
  });
  return { store, clock, asked, observed };
}

export function xml(text: string, status = 200, headers: Record<string, string> = {}): Response {
  const body = `<?xml version="1.0" encoding="UTF-8"?>${text}`;
  return new Response(body, { status, headers: { "content-type": "application/xml", ...headers } });
}

export function refusal(status: number, code: string, headers: Record<string, string> = {}): Response {
  return xml(`<Error><Code>${code}</Code><RequestId>tx0001</RequestId></Error>`, status, headers);
}

export const emptyList = () => xml("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>");
