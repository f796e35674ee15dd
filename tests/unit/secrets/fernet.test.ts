/** Fernet against its specification's own vectors (tests/fixtures/fernet, out of github.com/fernet/spec). */
import { describe, expect, test } from "vitest";
import { CHECKOUT } from "../../../local/paths.ts";
import { fromBase64Url, toBase64Url } from "../../../shared/secrets/base64url.ts";
import {
  fernetDecrypt,
  fernetEncrypt,
  importFernetKey,
  InvalidToken,
} from "../../../shared/secrets/fernet.ts";

interface Vector {
  desc?: string;
  token: string;
  now: string;
  iv?: number[];
  ttl_sec?: number;
  src?: string;
  secret: string;
}

const vectors = (name: string): Vector[] =>
  JSON.parse(Deno.readTextFileSync(`${CHECKOUT}/tests/fixtures/fernet/${name}.json`));
const keyOf = ({ secret }: Vector) => importFernetKey(fromBase64Url(secret)!);
const bytes = (text: string) => new TextEncoder().encode(text);
const text = (message: Uint8Array) => new TextDecoder().decode(message);

test("the files hold what they should", () => {
  expect(["generate", "verify", "invalid"].map((name) => vectors(name).length)).toEqual([1, 1, 8]);
});

test.each(vectors("generate"))("generate: $src", async (vector) => {
  const mint = { now: Date.parse(vector.now), iv: Uint8Array.from(vector.iv!) };
  expect(await fernetEncrypt(await keyOf(vector), bytes(vector.src!), mint)).toBe(vector.token);
});

test.each(vectors("verify"))("verify: $src", async (vector) => {
  const age = { now: Date.parse(vector.now), ttlSeconds: vector.ttl_sec! };
  expect(text(await fernetDecrypt(await keyOf(vector), vector.token, age))).toBe(vector.src);
});

test.each(vectors("invalid"))("invalid: $desc", async (vector) => {
  const age = { now: Date.parse(vector.now), ttlSeconds: vector.ttl_sec! };
  await expect(fernetDecrypt(await keyOf(vector), vector.token, age)).rejects.toBeInstanceOf(InvalidToken);
});

describe("a token", async () => {
  const key = await importFernetKey(crypto.getRandomValues(new Uint8Array(32)));

  test.each([0, 1, 15, 16, 17, 31, 32, 1_000])("of %i bytes comes back", async (length) => {
    const message = crypto.getRandomValues(new Uint8Array(length));
    expect(await fernetDecrypt(key, await fernetEncrypt(key, message))).toEqual(message);
  });

  test("is another one each time", async () => {
    expect(await fernetEncrypt(key, bytes("a"))).not.toBe(await fernetEncrypt(key, bytes("a")));
  });

  test("with any bit changed is refused", async () => {
    const token = fromBase64Url(await fernetEncrypt(key, bytes("hello")))!;
    for (let at = 0; at < token.length; at++) {
      const altered = token.slice();
      altered[at]! ^= 1 << (at % 8);
      // The version's own bit aside, every byte is signed, or is the signature.
      await expect(fernetDecrypt(key, toBase64Url(altered)), `byte ${at}`).rejects.toBeInstanceOf(
        InvalidToken,
      );
    }
  });

  test.each(["", "gAAAAA", "not base64", "gAAAAA==", "\u0000"])("that is %j is refused", async (nonsense) => {
    await expect(fernetDecrypt(key, nonsense)).rejects.toBeInstanceOf(InvalidToken);
  });

  test("of another key is refused", async () => {
    const other = await importFernetKey(crypto.getRandomValues(new Uint8Array(32)));
    await expect(fernetDecrypt(other, await fernetEncrypt(key, bytes("a")))).rejects.toBeInstanceOf(
      InvalidToken,
    );
  });

  test("a key of another length is none", async () => {
    await expect(importFernetKey(new Uint8Array(16))).rejects.toThrow(RangeError);
  });
});
