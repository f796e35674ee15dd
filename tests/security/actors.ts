/** A whole stack, and everybody who may stand before it: the tests of this folder ask what each of them can do. */
import { base64url, SignJWT } from "jose";
import postgres from "postgres";
import { expect } from "vitest";
import type { StackOptions } from "../../local/stack.ts";
import { createAdmin } from "../../shared/database/admin.ts";
import { rpcTransport } from "../../shared/database/transport/rpc_transport.ts";
import { mintConsumerSecret } from "../../shared/tokens/consumer_secret.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

export const MODEL = "gemma-4-31b-it";

/** Who calls, with what they carry. */
export type Actor =
  | "console administrator"
  | "ordinary user"
  | "notebook token"
  | "revoked token"
  | "consumer key"
  | "nobody";

export interface Actors {
  stack: TestStack;
  sql: postgres.Sql;
  admin: ReturnType<typeof createAdmin>;
  /** Everything that must not come out anywhere, by what it is. */
  secrets: Record<string, string>;
  /** Headers of each actor, as they would send them to any of the functions. */
  headers: Record<Actor, Record<string, string>>;
  /** Headers of credentials that open no function of the models, by what they are. */
  strangers: Record<string, Record<string, string>>;
  /** Adds a consumer, and gives its secret. */
  add(name: string, kind: "service" | "notebook", options?: Record<string, unknown>): Promise<string>;
  /** A token of the notebook's consumer. */
  tokenFor(scope?: Record<string, unknown>): Promise<string>;
  stop(): Promise<void>;
}

export interface ActorsOptions extends Partial<StackOptions> {
  /** PostgreSQL writes every statement down, with what it was given. */
  statementLog?: boolean;
}

/** Starts them all. Call it in `beforeAll`, and `stop` in `afterAll`. */
export async function startWithActors({ statementLog, ...options }: ActorsOptions = {}): Promise<Actors> {
  const stack = await startTestStack({ emulator: { latencyMs: 5 }, ...options });
  const sql = postgres(stack.databaseUrl, { max: 8, onnotice: () => {} });
  if (statementLog) await logStatements(stack);
  const admin = createAdmin(rpcTransport({ url: stack.url, secretKey: stack.keys.secret }));
  // This is about who may call, not about how often.
  await sql`update public.google_ai_model_limits set rpm = null, tpm = null, rpd = null where model = ${MODEL}`;
  if (stack.emulatorUrl !== undefined) {
    await (await fetch(`${stack.emulatorUrl}/__control/limits`, {
      method: "POST",
      body: JSON.stringify([{ model: MODEL, rpm: null, tpm: null, rpd: null }]),
    })).body?.cancel();
  }
  await sql`update eve.settings set value = 100000 where name like 'issue_per%'`;

  async function add(name: string, kind: "service" | "notebook", more: Record<string, unknown> = {}) {
    const { keyId, proof, text } = await mintConsumerSecret(kind);
    await admin.addConsumer({ name, kind, keyId, proof, ...more });
    return text;
  }

  async function tokenFor(scope: Record<string, unknown> = {}): Promise<string> {
    const response = await fetch(`${stack.url}/functions/v1/issue-kaggle-token`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ grant_type: "client_credentials", client_secret: secrets.notebook, ...scope }),
    });
    return (await response.json()).access_token;
  }

  const secrets: Record<string, string> = {};
  secrets.project = stack.keys.secret;
  secrets.sessions = stack.keys.jwtSecret;
  secrets.signing = stack.keys.tokenSigningKey;
  for (const name of ["a", "b", "c"]) secrets[`google ${name}`] = `demo-key-${name}`;
  secrets.service = await add("bot", "service");
  secrets.other = await add("other", "service");
  secrets.notebook = await add("notes", "notebook", { models: [MODEL], maxClass: "batch" });
  secrets.token = await tokenFor();
  secrets.revoked = await tokenFor();
  await admin.revokeTokens({ tokenId: claimsOf(secrets.revoked).jti });
  secrets.session = await signUp(stack, "visitor@example.com");
  secrets.administrator = await signUp(stack, "owner@example.com");
  await sql`
    update auth.users set raw_app_meta_data = '{"provider": "email", "role": "admin"}'
    where email = 'owner@example.com'`;
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
  const inBrowser = (token: string) => ({ apikey: stack.keys.publishable, ...bearer(token) });
  return {
    stack,
    sql,
    admin,
    secrets,
    headers: {
      "console administrator": inBrowser(secrets.administrator),
      "ordinary user": inBrowser(secrets.session),
      "notebook token": bearer(secrets.token),
      "revoked token": bearer(secrets.revoked),
      "consumer key": { apikey: secrets.service },
      "nobody": {},
    },
    strangers: await makeStrangers(stack, secrets),
    add,
    tokenFor,
    async stop() {
      await sql.end({ timeout: 5 });
      await stack.stop();
    },
  };
}

async function logStatements(stack: TestStack): Promise<void> {
  const superuser = postgres(stack.database.superuserUrl, { max: 1, onnotice: () => {} });
  await superuser.unsafe("alter system set log_statement = 'all'");
  await superuser.unsafe("alter system set log_parameter_max_length = -1");
  await superuser`select pg_reload_conf()`;
  await superuser.end();
}

/** A user of the same project, with a session of the project's own Auth. */
async function signUp(stack: TestStack, email: string): Promise<string> {
  const response = await fetch(`${stack.url}/auth/v1/signup`, {
    method: "POST",
    headers: { "content-type": "application/json", apikey: stack.keys.publishable },
    body: JSON.stringify({ email, password: "correct horse battery" }),
  });
  const { access_token } = await response.json();
  expect(access_token, "the test needs a real session").toMatch(/^eyJ/);
  return access_token;
}

// deno-lint-ignore no-explicit-any -- claims of tokens that the test itself has spoilt.
export const claimsOf = (token: string): any =>
  JSON.parse(new TextDecoder().decode(base64url.decode(token.split(".")[1]!)));
const encode = (value: unknown) => base64url.encode(JSON.stringify(value));

async function makeStrangers(
  stack: TestStack,
  secrets: Actors["secrets"],
): Promise<Actors["strangers"]> {
  const key = base64url.decode(stack.keys.tokenSigningKey);
  const claims = claimsOf(secrets.token!);
  const [header, payload, signature] = secrets.token!.split(".");
  const signed = (changes: Record<string, unknown>, signingKey = key, head: Record<string, unknown> = {}) =>
    new SignJWT({ ...claims, ...changes }).setProtectedHeader({
      alg: "HS256",
      typ: "at+jwt",
      kid: "local",
      ...head,
    })
      .sign(signingKey);
  const sessionKey = new TextEncoder().encode(stack.keys.jwtSecret);
  const past = claims.exp - 1_000_000;
  const tokens = {
    "a revoked token": secrets.revoked!,
    "an expired token": await signed({ iat: past, nbf: past, exp: past + 600 }),
    "a token of tomorrow": await signed({ nbf: claims.exp - 1 }),
    "a token for another audience": await signed({ aud: `${stack.url}/functions/v1/maintenance` }),
    "a token of another project": await signed({
      iss: "https://elsewhere.supabase.co/functions/v1/issue-kaggle-token",
    }),
    "a token of an unknown key": await signed({}, key, { kid: "tomorrow" }),
    "a token signed with the sessions' key": await signed({}, sessionKey),
    "a token that was never issued": await signed({ jti: crypto.randomUUID() }),
    "a token of another consumer's": await signed({ sub: crypto.randomUUID() }),
    "a tampered token": `${header}.${encode({ ...claims, exp: claims.exp + 1_000_000 })}.${signature}`,
    "a token without a signature": `${header}.${payload}.`,
    "alg none": `${encode({ alg: "none", typ: "at+jwt", kid: "local" })}.${payload}.`,
    "alg none as the service role": `${encode({ alg: "none", typ: "JWT" })}.${
      encode({ role: "service_role", exp: claims.exp })
    }.`,
    "a session": secrets.session!,
    "an administrator's session": secrets.administrator!,
    "a session of the service role, by a stranger": await new SignJWT({
      role: "service_role",
      exp: claims.exp,
    })
      .setProtectedHeader({ alg: "HS256" }).sign(new Uint8Array(32).fill(1)),
    "an enrolment secret": secrets.notebook!,
    "a consumer's key with another secret": secrets.service!.replace(
      /.$/,
      (last) => last === "0" ? "1" : "0",
    ),
    "a consumer's key cut short": secrets.service!.slice(0, -10),
    "the project's key cut short": stack.keys.secret.slice(0, -1),
    "the project's key in capitals": stack.keys.secret.toUpperCase(),
    "one of Google's keys": secrets["google a"]!,
    "SQL": "' or 1=1 --",
  };
  return {
    "nothing": {},
    "the publishable key": { apikey: stack.keys.publishable },
    "the publishable key as Bearer": { authorization: `Bearer ${stack.keys.publishable}` },
    "a password": { authorization: `Basic ${btoa(`project:${stack.keys.secret}`)}` },
    ...Object.fromEntries(
      Object.entries(tokens).map(([name, token]) => [name, { authorization: `Bearer ${token}` }]),
    ),
    "a revoked token beside the publishable key": {
      apikey: stack.keys.publishable,
      authorization: `Bearer ${secrets.revoked}`,
    },
  };
}
