/** Where the secret of a key of the pool is found, and when there is none. */
import { describe, expect, test } from "vitest";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { StoredCredential } from "../../../shared/database/stages.ts";
import { createKeyEncryption } from "../../../shared/secrets/key_encryption.ts";
import { secretSourceOf } from "../../../shared/contract/secret_source.ts";
import { poolSecret } from "../../../shared/stages/pool_secret.ts";
import { storedKeys } from "../../../shared/stages/stored_keys.ts";

const ADMIN_SECRET = "an-admin-secret-of-32-characters";
const encryption = createKeyEncryption(ADMIN_SECRET);
const NAME = "stored:5b2c5f3e-4a32-4b5e-9d0c-000000000001";
const read = () => undefined;
const secrets = (name: string) => name === "GOOGLE_API_KEY_1" ? "out of the environment" : null;

/** A database with one stored key, which counts how often it is asked. */
async function withKey(binding = { providerKind: "gemini", origins: {} }, opened = () => encryption) {
  const asked: string[] = [];
  const kept: StoredCredential = {
    provider_kind: "gemini",
    api_key_encrypted: await encryption.encrypt("the key itself", binding),
    settings: {},
  };
  const credential = (name: string) => {
    asked.push(name);
    return Promise.resolve(name === NAME ? kept : null);
  };
  return { asked, sources: { secrets, storedKeys: storedKeys({ credential }, opened, read) } };
}

describe("the secret of a key of the pool", () => {
  test("is in the environment, or in the database, where it is asked for once", async () => {
    const { asked, sources } = await withKey();
    expect(await poolSecret(secretSourceOf("GOOGLE_API_KEY_1"), "google", sources)).toBe(
      "out of the environment",
    );
    expect(asked).toEqual([]);
    for (let call = 0; call < 3; call++) {
      expect(await poolSecret(secretSourceOf(NAME), "google", sources)).toBe("the key itself");
    }
    expect(asked).toEqual([NAME]);
  });

  test("is not there: the key cannot be used, and no call fails for it", async () => {
    const { sources } = await withKey();
    expect(await poolSecret(secretSourceOf("stored:gone"), "google", sources)).toBeNull();
    expect(await poolSecret(secretSourceOf(NAME), "google", { secrets })).toBeNull();
    const other = await withKey(undefined, () => createKeyEncryption("another-admin-secret-0123456789"));
    expect(await poolSecret(secretSourceOf(NAME), "google", other.sources)).toBeNull();
    const none = await withKey(undefined, () => createKeyEncryption(undefined));
    expect(await poolSecret(secretSourceOf(NAME), "google", none.sources)).toBeNull();
  });

  test("goes to the provider that it was entered for alone, whatever its row says", async () => {
    const { sources } = await withKey();
    expect(await poolSecret(secretSourceOf(NAME), "openai", sources)).toBeNull();
    // Known by now, and still not sent elsewhere.
    expect(await poolSecret(secretSourceOf(NAME), "google", sources)).toBe("the key itself");
    expect(await poolSecret(secretSourceOf(NAME), "openai", sources)).toBeNull();
    const others = await withKey({ providerKind: "openai", origins: { base_url: "https://api.openai.com" } });
    expect(await poolSecret(secretSourceOf(NAME), "google", others.sources)).toBeNull();
  });

  test("cannot be read while the database does not answer, which is no fault of the key", async () => {
    const credential = () => Promise.reject(new GatewayError("database_unavailable"));
    const sources = { secrets, storedKeys: storedKeys({ credential }, () => encryption, read) };
    await expect(poolSecret(secretSourceOf(NAME), "google", sources)).rejects.toMatchObject({
      code: "database_unavailable",
    });
  });
});
