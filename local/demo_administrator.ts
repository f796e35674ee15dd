/** Somebody who may sign in to the local console: made once, like the other rows that the local stack brings along. */
import { base64url } from "jose";
import postgres from "postgres";

export interface DemoAdministrator {
  email: string;
  password: string;
}

const EMAIL = "admin@example.com";
const FILE = "demo_administrator.json";
/** 96 random bits: nobody has to remember it, somebody may have to type it. */
const PASSWORD_BYTES = 12;

export interface DemoAdministratorOptions {
  dataDir: string;
  /** As the superuser, who may write to the schema `auth`. */
  superuserUrl: string;
  /** Answers `/auth/v1`. */
  api: (request: Request, peerAddress: string) => Response | Promise<Response>;
  publishableKey: string;
}

/** Signs the demo administrator up if there is none, and grants the role. */
export async function demoAdministrator(options: DemoAdministratorOptions): Promise<DemoAdministrator> {
  const path = `${options.dataDir}/${FILE}`;
  const kept = parse(await Deno.readTextFile(path).catch(() => ""));
  const administrator = kept ?? { email: EMAIL, password: randomPassword() };
  await Deno.writeTextFile(path, `${JSON.stringify(administrator)}\n`, { mode: 0o600 });
  const database = postgres(options.superuserUrl, { max: 1, onnotice: () => {} });
  try {
    // Without its file the password is lost.
    if (!kept) await database`delete from auth.users where email = ${EMAIL}`;
    const known = await database`select from auth.users where email = ${administrator.email}`;
    if (known.length === 0) {
      await signUp(options, administrator);
      await database`
        update auth.users
        set raw_app_meta_data = coalesce(raw_app_meta_data, '{}') || '{"role": "admin"}'
        where email = ${administrator.email}
      `;
    }
  } finally {
    await database.end();
  }
  return administrator;
}

/** As any visitor would: the password is kept the way the server of `/auth/v1` keeps them. */
async function signUp(options: DemoAdministratorOptions, administrator: DemoAdministrator): Promise<void> {
  const response = await options.api(
    new Request("http://127.0.0.1/auth/v1/signup", {
      method: "POST",
      headers: { "apikey": options.publishableKey, "content-type": "application/json" },
      body: JSON.stringify(administrator),
    }),
    "127.0.0.1",
  );
  if (!response.ok) {
    throw new Error(`The demo administrator could not be signed up: ${await response.text()}`);
  }
}

function parse(text: string): DemoAdministrator | undefined {
  try {
    const { email, password } = JSON.parse(text) as Partial<DemoAdministrator>;
    return email && password ? { email, password } : undefined;
  } catch {
    return undefined;
  }
}

function randomPassword(): string {
  return base64url.encode(crypto.getRandomValues(new Uint8Array(PASSWORD_BYTES)));
}
