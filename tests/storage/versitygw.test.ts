import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TestStore } from "../harness/stores.ts";
import { VERSITYGW } from "../harness/stores.ts";
import { startVersitygw } from "../harness/versitygw.ts";
import { behavesAsS3, storeOf } from "./s3_behaviour.ts";

describe.skipIf(VERSITYGW === null)("Versity's gateway", () => {
  let gateway: TestStore;
  beforeAll(async () => {
    gateway = await startVersitygw();
  });
  afterAll(async () => await gateway?.stop());

  behavesAsS3(() => gateway.newBucket());

  test("it holds to the checksum's header, and has no lifecycle", async () => {
    expect(await storeOf(await gateway.newBucket()).abilities()).toEqual({
      hashHeader: "x-amz-checksum-sha256",
      hashBoundPut: true,
      ifNoneMatch: true,
      lifecycle: false,
    });
  });
});
