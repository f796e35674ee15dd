import { describe, expect, test } from "vitest";
import { mintConsumerSecret, readConsumerSecret } from "../../../shared/tokens/consumer_secret.ts";

describe("a consumer's secret", () => {
  test("is new each time, says its kind, and is read back", async () => {
    const made = await mintConsumerSecret("notebook");
    const { text, ...read } = made;
    expect(text).toMatch(/^eve_notebook_[0-9a-f]{16}_[0-9a-f]{64}$/);
    expect(await readConsumerSecret(text)).toEqual(read);
    expect((await mintConsumerSecret("notebook")).text).not.toBe(text);
  });

  test("is not in its proof, and a rotated one has another proof under the same id", async () => {
    const first = await mintConsumerSecret("service");
    const second = await mintConsumerSecret("service", first.keyId);
    expect(second.keyId).toBe(first.keyId);
    expect(second.proof).not.toBe(first.proof);
    expect(first.text).not.toContain(first.proof);
  });

  test("has a proof that never changes: the hashes of all consumers rest on it", async () => {
    const text = `eve_service_0123456789abcdef_${"ab".repeat(32)}`;
    expect((await readConsumerSecret(text))?.proof).toBe(
      "926ea9b54d569080688d26745b64fd8e3de25950cf7145345656da45c439cec8",
    );
  });

  test.each([
    "",
    "eve_",
    "eve_service_0123456789abcdef_",
    "sb_secret_abc",
    "eve_admin_0123456789abcdef_" + "a".repeat(64),
  ])(
    "of another form is none: %s",
    async (text) => {
      expect(await readConsumerSecret(text)).toBeNull();
    },
  );
});
