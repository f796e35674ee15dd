import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ObjectStore } from "../../shared/media/object_store.ts";
import { type Radosgw, startRadosgw } from "../harness/radosgw.ts";
import { withoutRadosgw } from "../harness/stores.ts";
import { behavesAsS3, storeOf } from "./s3_behaviour.ts";
import { textObject } from "./object_store_behaviour.ts";

describe.skipIf(withoutRadosgw)("Ceph's object gateway", () => {
  let ceph: Radosgw;
  let store: ObjectStore;
  beforeAll(async () => {
    ceph = await startRadosgw();
    store = storeOf(await ceph.newBucket());
  });
  afterAll(async () => await ceph?.stop());

  behavesAsS3(() => ceph.newBucket());

  test("it can do all, and the probe leaves nothing behind", async () => {
    expect(await store.abilities()).toEqual({
      hashHeader: "x-amz-content-sha256",
      hashBoundPut: true,
      ifNoneMatch: true,
      lifecycle: true,
    });
    expect((await store.list()).objects).toEqual([]);
  });

  test("unfinished uploads are listed page by page", async () => {
    const uploads = [];
    for (const name of ["a", "b", "b", "c"]) {
      uploads.push(await store.multipart!.create(`pages/${name}.bin`, { contentType: "image/png" }));
    }
    const found = [];
    let cursor: string | null = null;
    do {
      const page: Awaited<ReturnType<NonNullable<ObjectStore["multipart"]>["list"]>> = await store.multipart!
        .list({
          prefix: "pages/",
          limit: 1,
          cursor,
        });
      found.push(...page.uploads.map(({ uploadId }) => uploadId));
      cursor = page.cursor;
    } while (cursor !== null && found.length < 10);
    expect(found.sort()).toEqual(uploads.map(({ uploadId }) => uploadId).sort());
    for (const upload of uploads) await store.multipart!.abort(upload);
  });

  test("the rules for unfinished uploads are set and changed", async () => {
    const { lifecycle } = storeOf(await ceph.newBucket());
    expect(await lifecycle!.abortUnfinishedAfterDays()).toBeNull();
    await lifecycle!.setAbortUnfinishedAfterDays(3);
    await lifecycle!.setAbortUnfinishedAfterDays(1);
    expect(await lifecycle!.abortUnfinishedAfterDays()).toBe(1);
  });

  test("what was answered is there after the gateway has crashed", async () => {
    await store.put("media/a/before.txt", await textObject("before"));
    await ceph.crash();
    await expect(store.ping()).rejects.toMatchObject({ code: "storage_unavailable" });
    await ceph.revive();
    expect(await new Response((await store.get("media/a/before.txt")).body).text()).toBe("before");
  });
});
