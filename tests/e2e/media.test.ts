/** Files over HTTP, with nothing configured: what `npm start` gives. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { sha256Of } from "../../shared/media/hash.ts";
import { jpegOf, pngOf, scene } from "../harness/made_pictures.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

let stack: TestStack;
beforeAll(async () => {
  stack = await startTestStack({ env: { S3_PER_TENANT_LIMIT_GB: "0.006", S3_DEFAULT_TENANT_ID: "acme" } });
});
afterAll(() => stack?.stop());

const ask = (method: string, path: string, init: RequestInit = {}) =>
  fetch(`${stack.url}/functions/v1/api${path}`, {
    ...init,
    method,
    headers: { apikey: stack.keys.secret, ...init.headers },
    redirect: "manual",
  });

/** A bitmap of so many bytes. */
function bitmap(size: number, salt: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size).fill(salt);
  bytes.set([0x42, 0x4d]);
  return bytes;
}

test("a file of megabytes goes in once, comes out as it was, and the next one is over the limit", async () => {
  const picture = bitmap(4_000_000, 7);
  const sha256 = await sha256Of(picture);
  const put = () => ask("POST", "/v1/media", { body: picture, headers: { "content-type": "image/bmp" } });
  const first = await put();
  expect(first.status, await first.clone().text()).toBe(201);
  expect(await first.json()).toMatchObject({
    sha256,
    tenant_id: "acme",
    stored_in: "postgres",
    created: true,
  });
  expect(await (await put()).json()).toMatchObject({ sha256, created: false });

  const redirect = await ask("GET", `/v1/media/${sha256}`);
  expect(redirect.status).toBe(302);
  const read = await fetch(redirect.headers.get("location")!);
  expect(read.status).toBe(200);
  expect(await sha256Of(new Uint8Array(await read.arrayBuffer()))).toBe(sha256);

  const refused = await ask("POST", "/v1/media", {
    body: bitmap(3_000_000, 8),
    headers: { "content-type": "image/bmp" },
  });
  expect(refused.status).toBe(507);
  expect((await refused.json()).error).toMatchObject({
    code: "storage_quota_exceeded",
    details: { limit: "tenant", limit_bytes: 6_000_000, used_bytes: 4_000_000, asked_bytes: 3_000_000 },
  });
  expect(await (await ask("GET", "/v1/storage/quota")).json()).toMatchObject({
    tenant_id: "acme",
    tenant: { used_bytes: 4_000_000, limit_bytes: 6_000_000 },
  });
});

test("an announced file is sent to its address", async () => {
  const picture = bitmap(1_000, 9);
  const sha256 = await sha256Of(picture);
  const headers = { "content-type": "application/json" };
  const begun = await (await ask("POST", "/v1/media/uploads", {
    headers,
    body: JSON.stringify({ sha256, size_bytes: picture.length, content_type: "image/bmp" }),
  })).json();
  const { "content-length": _, ...sent } = begun.upload.headers;
  expect((await fetch(begun.upload.url, { method: "PUT", headers: sent, body: picture })).status).toBe(200);
  const verified = await fetch(begun.verify.url, {
    method: "POST",
    headers: { ...headers, apikey: stack.keys.secret },
    body: JSON.stringify(begun.verify.body),
  });
  expect(await verified.json()).toMatchObject({ sha256, state: "verified" });
});

test("a post comes with its pictures in one form, and once more is the same post", async () => {
  const files = [pngOf(scene(1, 90, 80)), jpegOf(scene(2, 120, 96))];
  const hashes = await Promise.all(files.map(sha256Of));
  const send = (post: unknown = { source: "api", external_id: "form-1", text: "Concert" }) => {
    const form = new FormData();
    form.set("post", JSON.stringify(post));
    for (const [n, file] of files.entries()) {
      form.append("media", new Blob([file], { type: ["image/png", ""][n]! }), `${n}`);
    }
    return ask("POST", "/v1/intake/posts", { body: form });
  };
  const first = await send();
  expect(first.status, await first.clone().text()).toBe(201);
  const post = await first.json();
  expect(post).toMatchObject({ external_id: "form-1", text: "Concert", media: hashes });
  const found = await (await ask("GET", `/v1/vision/posts/${post.id}`)).json();
  expect(found.enrichment.map((one: { file_sha256: string }) => one.file_sha256).toSorted()).toEqual(
    hashes.toSorted(),
  );
  const again = await send();
  expect([again.status, (await again.json()).id]).toEqual([200, post.id]);
  for (const wrong of [{ source: "" }, { external_id: "x", surprise: 1 }]) {
    expect((await send(wrong)).status).toBe(400);
  }
  const none = await ask("POST", "/v1/intake/posts", { body: new FormData() });
  expect([none.status, (await none.json()).error.code]).toEqual([400, "invalid_request"]);
});

test("a stranger learns nothing, and the document is open", async () => {
  expect((await ask("GET", "/v1/media", { headers: { apikey: stack.keys.publishable } })).status).toBe(401);
  expect((await ask("GET", "/v1/openapi.json")).status).toBe(200);
});
