/** The encryption of ADMIN_SECRET_KEY, rotation, and Python's `cryptography` reading and writing the same tokens. */
import { describe, expect, test } from "vitest";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import { factsOfKey } from "../../../shared/secrets/key_facts.ts";
import { createKeyEncryption, DERIVATION } from "../../../shared/secrets/key_encryption.ts";

const NEW = "new-secret-of-more-than-22-characters";
const OLD = "old-secret-of-more-than-22-characters";
const KEY = "sk-ключ-1234";

describe("encryption", () => {
  test("decrypts what it encrypted", async () => {
    const encryption = createKeyEncryption(NEW);
    expect(await encryption.decrypt(await encryption.encrypt(KEY))).toBe(KEY);
  });

  test("of several secrets encrypts with the first and decrypts with all", async () => {
    const before = await createKeyEncryption(OLD).encrypt(KEY);
    const both = createKeyEncryption(` ${NEW} , ${OLD},`);
    expect(await both.decrypt(before)).toBe(KEY);
    const renewed = await both.renew(before);
    expect(await createKeyEncryption(NEW).decrypt(renewed!)).toBe(KEY);
    expect(await both.renew(renewed!)).toBeNull();
    expect(await createKeyEncryption(NEW).decrypt(await both.encrypt(KEY))).toBe(KEY);
  });

  test("without the secret of that time says what to do, and nothing of the secret or the key", async () => {
    const before = await createKeyEncryption(OLD).encrypt(KEY);
    const failed = await createKeyEncryption(NEW).decrypt(before).catch((error) => error);
    expect(failed).toBeInstanceOf(GatewayError);
    expect(failed).toMatchObject({ code: "gateway_misconfigured" });
    expect(failed.message).toContain("enter the provider's key again");
    expect(failed.message).not.toContain(NEW);
  });

  test.each([undefined, "", " , "])("of %j says that it is not set", (text) => {
    expect(() => createKeyEncryption(text)).toThrow("ADMIN_SECRET_KEY is not set");
  });

  test("of a short secret, even beside a long one, is refused", () => {
    for (const text of ["short", `${NEW},short`]) {
      expect(() => createKeyEncryption(text)).toThrow("at least 22 characters");
    }
  });
});

test("of a key a fingerprint is stored, and four characters of one that is long enough", async () => {
  const { fingerprint, lastFour } = await factsOfKey("sk-abcdef-9876");
  expect(fingerprint).toMatch(/^[0-9a-f]{32}$/);
  expect(lastFour).toBe("9876");
  expect((await factsOfKey("12345678")).lastFour).toBe("");
  expect((await factsOfKey("sk-abcdef-9877")).fingerprint).not.toBe(fingerprint);
});

/** Debian's Python is the one that sees Debian's packages. */
const PYTHON = ["/usr/bin/python3", "python3"];
/** `keys()` as a Python service writes it: with the values that docs/providers.md gives. */
const PROGRAM = `
import base64, json, sys
from cryptography.fernet import Fernet, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

def fernet(secret):
    derived = HKDF(hashes.SHA256(), 32, b"eve-gateway", b"fernet:provider-keys:v1").derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(derived))

asked = json.load(sys.stdin)
keys = MultiFernet([fernet(secret) for secret in asked["secrets"]])
print(json.dumps({
    "opened": keys.decrypt(asked["token"].encode()).decode(),
    "closed": keys.encrypt(asked["text"].encode()).decode(),
    "rotated": keys.rotate(asked["token"].encode()).decode(),
}))
`;

async function python(input: string, program = PROGRAM, args = ["-c", program]): Promise<string | null> {
  for (const name of PYTHON) {
    try {
      const process = new Deno.Command(name, { args, stdin: "piped", stdout: "piped", stderr: "piped" })
        .spawn();
      const writer = process.stdin.getWriter();
      await writer.write(new TextEncoder().encode(input));
      await writer.close();
      const { success, stdout } = await process.output();
      if (success) return new TextDecoder().decode(stdout);
    } catch (thrown) {
      if (!(thrown instanceof Deno.errors.NotFound)) throw thrown;
    }
  }
  return null;
}

const hasCryptography = await python("", "import cryptography.fernet") !== null;

// In CI it is installed, and nothing is skipped.
test.skipIf(!hasCryptography && !Deno.env.get("CI"))(
  "Python's cryptography reads and writes the same tokens",
  async () => {
    expect(hasCryptography, "python3-cryptography is not installed").toBe(true);
    expect(DERIVATION).toEqual({ salt: "eve-gateway", info: "fernet:provider-keys:v1", bytes: 32 });
    const token = await createKeyEncryption(OLD).encrypt(KEY);
    const said = await python(JSON.stringify({ secrets: [NEW, OLD], token, text: "написано Питоном" }));
    const { opened, closed, rotated } = JSON.parse(said!);
    expect(opened).toBe(KEY);
    expect(await createKeyEncryption(NEW).decrypt(closed)).toBe("написано Питоном");
    expect(await createKeyEncryption(NEW).decrypt(rotated)).toBe(KEY);
  },
);
