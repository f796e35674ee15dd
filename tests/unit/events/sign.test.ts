/** Signatures of webhooks, by the vector of Standard Webhooks and by the library that receivers use. */
import * as fc from "fast-check";
import { Webhook } from "standardwebhooks";
import { expect, test } from "vitest";
import { isWebhookSecret, mintWebhookSecret, signedHeaders } from "../../../shared/events/webhooks/sign.ts";
import { namedHosts } from "../../../shared/http/outgoing/public_target.ts";

test("is that of the specification's example", () => {
  const headers = signedHeaders(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], {
    id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
    nowMs: 1_614_265_330_000,
    body: '{"test": 2432232314}',
  });
  expect(headers).toEqual({
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
  });
});

test("whatever the body, any of the secrets verifies it, and no other does", () => {
  fc.assert(
    fc.property(fc.json(), fc.uuid(), fc.integer({ min: 1, max: 3 }), (body, id, count) => {
      const secrets = Array.from({ length: count }, () => mintWebhookSecret());
      const headers = signedHeaders(secrets, { id, nowMs: Date.now(), body });
      for (const secret of secrets) {
        expect(new Webhook(secret).verify(body, headers)).toEqual(JSON.parse(body));
      }
      expect(() => new Webhook(mintWebhookSecret()).verify(body, headers)).toThrow("No matching signature");
      expect(() => new Webhook(secrets[0]!).verify(`${body} `, headers)).toThrow("No matching signature");
    }),
    { numRuns: 50 },
  );
});

test("a secret has 24 to 64 bytes in base64", () => {
  const of = (bytes: number) => `whsec_${btoa("x".repeat(bytes))}`;
  expect([23, 24, 64, 65].map((bytes) => isWebhookSecret(of(bytes)))).toEqual([false, true, true, false]);
  expect(
    ["", "whsec_", "whsec_a", of(32).slice(6), `${of(32)}=`, `whsec_${"-".repeat(32)}`].filter(
      isWebhookSecret,
    ),
  )
    .toEqual([]);
  expect(isWebhookSecret(mintWebhookSecret())).toBe(true);
});

test("hosts that the owner names are meant whole", () => {
  const allows = namedHosts(" 127.0.0.1, Hooks.internal ,");
  expect(["127.0.0.1", "hooks.internal"].every((host) => allows(host))).toBe(true);
  expect(["", "internal", "127.0.0.11", "x.hooks.internal"].some((host) => allows(host))).toBe(false);
  expect(namedHosts(undefined)("")).toBe(false);
  const onPort = namedHosts("127.0.0.1:8080");
  expect([onPort("127.0.0.1", "8080"), onPort("127.0.0.1"), onPort("127.0.0.1", "8081")]).toEqual([
    true,
    false,
    false,
  ]);
});
