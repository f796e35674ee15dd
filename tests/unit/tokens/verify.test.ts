import { base64url, SignJWT } from "jose";
import { describe, expect, test } from "vitest";
import { formatScope } from "../../../shared/tokens/scope.ts";
import { signToken, type TokenFacts } from "../../../shared/tokens/sign.ts";
import type { SigningKey } from "../../../shared/tokens/signing_keys.ts";
import { tokenRules } from "../../../shared/tokens/token_rules.ts";
import { verifyToken } from "../../../shared/tokens/verify.ts";

const keyNamed = (kid: string, byte: number): SigningKey => ({ kid, key: new Uint8Array(32).fill(byte) });
const OLD = keyNamed("2026-10", 1);
const NEW = keyNamed("2026-11", 2);
const PROJECT = "https://abcdefgh.supabase.co";
const RULES = tokenRules(PROJECT, [NEW, OLD]);

/** Seconds since 1970. */
const NOW = 1_795_000_000;
const FACTS: TokenFacts = {
  tokenId: "9b7a3a52-30f7-4a9f-8a44-1f9b0a7c2b22",
  consumerId: "5f0c8f1e-7a7e-4bd7-9d0a-0d6a3c9f1a11",
  scope: { models: ["gemma-4-31b-it"], class: "batch", requests: 100, tokens: null },
  issuedAt: NOW,
  expiresAt: NOW + 600,
};
const verifyAt = (token: string, second = NOW + 1, rules = RULES) =>
  verifyToken(token, rules, new Date(second * 1000));

/** A token with everything right, of which a test spoils one thing. */
const forge = (
  spoil: { header?: Record<string, unknown>; payload?: Record<string, unknown>; key?: Uint8Array } = {},
) =>
  new SignJWT({
    iss: RULES.issuer,
    aud: RULES.audience,
    sub: FACTS.consumerId,
    jti: FACTS.tokenId,
    iat: NOW,
    nbf: NOW,
    exp: NOW + 600,
    scope: formatScope(FACTS.scope),
    ...spoil.payload,
  }).setProtectedHeader({ alg: "HS256", typ: "at+jwt", kid: NEW.kid, ...spoil.header }).sign(
    spoil.key ?? NEW.key,
  );

const encode = (value: unknown) => base64url.encode(JSON.stringify(value));
const decode = (part = "") => JSON.parse(new TextDecoder().decode(base64url.decode(part)));

describe("a token that was issued", () => {
  test("names its consumer and itself", async () => {
    expect(await verifyAt(await signToken(FACTS, RULES))).toEqual({
      valid: true,
      consumerId: FACTS.consumerId,
      tokenId: FACTS.tokenId,
    });
  });

  test("says who issued it, for whom, until when and what for, and holds nothing else", async () => {
    const [header, payload] = (await signToken(FACTS, RULES)).split(".");
    expect(decode(header)).toEqual({ alg: "HS256", typ: "at+jwt", kid: "2026-11" });
    expect(decode(payload)).toEqual({
      iss: `${PROJECT}/functions/v1/issue-kaggle-token`,
      aud: `${PROJECT}/functions/v1/llm-invoke`,
      sub: FACTS.consumerId,
      jti: FACTS.tokenId,
      iat: NOW,
      nbf: NOW,
      exp: NOW + 600,
      scope: "model:gemma-4-31b-it class:batch requests:100",
    });
  });

  test("is valid while its key is there, though a newer one signs", async () => {
    const before = await signToken(FACTS, tokenRules(PROJECT, [OLD]));
    expect(await verifyAt(before)).toMatchObject({ valid: true });
    expect(await verifyAt(before, NOW + 1, tokenRules(PROJECT, [NEW]))).toMatchObject({ valid: false });
  });

  test("is expired afterwards, give or take the clocks' difference", async () => {
    const token = await signToken(FACTS, RULES);
    expect(await verifyAt(token, NOW + 604)).toMatchObject({ valid: true });
    expect(await verifyAt(token, NOW + 605)).toMatchObject({ valid: false, reason: "expired" });
  });

  test("cannot be issued without a key", async () => {
    await expect(signToken(FACTS, tokenRules(PROJECT, []))).rejects.toMatchObject({
      code: "gateway_misconfigured",
    });
  });
});

describe("[security.forged-token] refused", () => {
  test("nothing, before it is spoilt: the tests below would show it", async () => {
    expect(await verifyAt(await forge())).toMatchObject({ valid: true });
  });

  test.each<[string, Parameters<typeof forge>[0]]>([
    ["an unknown kid", { header: { kid: "2026-09" } }],
    ["no kid", { header: { kid: undefined } }],
    ["a kid that names something every object has", { header: { kid: "constructor" } }],
    ["the right kid over another key", { key: OLD.key }],
    ["a key of nobody's", { key: new Uint8Array(32).fill(9) }],
    ["another algorithm with our key", { header: { alg: "HS512" }, key: new Uint8Array(64).fill(2) }],
    ["a user's session", { header: { typ: "JWT" } }],
    ["no type", { header: { typ: undefined } }],
    ["another audience", { payload: { aud: `${PROJECT}/functions/v1/maintenance` } }],
    ["no audience", { payload: { aud: undefined } }],
    ["another project's issuer", {
      payload: { iss: "https://evil.supabase.co/functions/v1/issue-kaggle-token" },
    }],
    ["not yet valid", { payload: { nbf: NOW + 60 } }],
    ["no expiry", { payload: { exp: undefined } }],
    ["an expiry that is no number", { payload: { exp: "never" } }],
    ["no scope", { payload: { scope: undefined } }],
    ["no jti", { payload: { jti: undefined } }],
    ["a jti that is no uuid", { payload: { jti: "' or true --" } }],
    ["a subject that is no uuid", { payload: { sub: "project" } }],
  ])("%s", async (_, spoil) => {
    // jose itself will not sign some of these; then the parts are put together by hand.
    const token = await forge(spoil).catch(() => null);
    if (token !== null) expect(await verifyAt(token)).toMatchObject({ valid: false, reason: "invalid" });
    else expect(spoil?.header?.alg).toBeDefined();
  });

  test("alg none, with and without a signature, in any spelling", async () => {
    const [, payload, signature] = (await forge()).split(".");
    for (const alg of ["none", "None", "NONE", ""]) {
      for (const end of ["", signature]) {
        const token = `${encode({ alg, typ: "at+jwt", kid: NEW.kid })}.${payload}.${end}`;
        expect(await verifyAt(token), `${alg} ${end}`).toMatchObject({ valid: false, reason: "invalid" });
      }
    }
  });

  test("claims changed under the old signature", async () => {
    const [header, payload, signature] = (await forge()).split(".");
    const changed = encode({ ...decode(payload), exp: NOW + 1_000_000 });
    expect(await verifyAt(`${header}.${changed}.${signature}`)).toMatchObject({ valid: false });
  });

  test("every token with one letter changed", async () => {
    const token = await forge();
    for (let at = 0; at < token.length - 1; at++) {
      const letter = token[at] === "A" ? "B" : "A";
      const changed = token.slice(0, at) + letter + token.slice(at + 1);
      expect(await verifyAt(changed), `letter ${at}`).toMatchObject({ valid: false });
    }
  });

  test.each(["", "a", "a.b.c", "..", "eyJ.eyJ.", "x".repeat(100_000)])(
    "what is no token: %#",
    async (text) => {
      expect(await verifyAt(text)).toMatchObject({ valid: false, reason: "invalid" });
    },
  );
});
