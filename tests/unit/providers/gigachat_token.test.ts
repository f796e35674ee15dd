/** GigaChat's access token: fetched once, shared until shortly before it ends, and replaced when it is refused. */
import { beforeEach, describe, expect, test } from "vitest";
import { gigachatProvider } from "../../../shared/providers/gigachat/provider.ts";
import { ProviderFailure } from "../../../shared/providers/provider.ts";
import { trustingFetch } from "../../../shared/providers/trusting_fetch.ts";
import { asFetch } from "../../fakes/fake_api.ts";
import { type GigachatEmulator, gigachatEmulator } from "../../../local/gigachat/emulator.ts";

let now: number;
let fake: GigachatEmulator;
let provider: ReturnType<typeof gigachatProvider>;
beforeEach(() => {
  now = 1_760_000_000_000;
  fake = gigachatEmulator();
  fake.now = () => now;
  provider = gigachatProvider({
    baseUrl: "https://gigachat.test/api/v1",
    authUrl: "https://ngw.test:9443/api/v2/oauth",
    fetch: asFetch(fake.handler),
    now: () => now,
  });
});

const call = (more: Record<string, unknown> = {}) => ({
  model: "gigachat/GigaChat-2",
  secret: "Z2lnYTpjaGF0",
  prompt: { contents: [{ role: "user", parts: [{ text: "Hello" }] }] },
  signal: new AbortController().signal,
  ...more,
});

describe("a token", () => {
  test("is fetched once for calls that come together and after one another", async () => {
    await Promise.all(Array.from({ length: 10 }, () => provider.text.generate(call())));
    await provider.listModels(call());
    expect(fake.tokensIssued).toBe(1);
  });

  test("is replaced a minute before it ends", async () => {
    await provider.text.generate(call());
    now += fake.tokenLifeMs - 60_001;
    await provider.text.generate(call());
    expect(fake.tokensIssued).toBe(1);
    now += 2;
    await provider.text.generate(call());
    expect(fake.tokensIssued).toBe(2);
  });

  test("that is refused is replaced, and the call made once more; also for a stream", async () => {
    await provider.text.generate(call());
    fake.revoked.add("eyJ.token-1");
    expect((await provider.text.generate(call())).verdict).toEqual({ ok: true });
    expect(fake.tokensIssued).toBe(2);
    fake.revoked.add("eyJ.token-2");
    const stream = provider.text.stream(call());
    expect((await stream.next()).done).toBe(false);
    await stream.return(undefined as never);
    expect(fake.tokensIssued).toBe(3);
  });

  test("is each key's and each scope's own", async () => {
    fake.credentials.set("b3RoZXI6b25l", "GIGACHAT_API_CORP");
    await provider.text.generate(call());
    await provider.text.generate(call({ secret: "b3RoZXI6b25l", settings: { scope: "GIGACHAT_API_CORP" } }));
    await provider.text.generate(call());
    expect(fake.tokensIssued).toBe(2);
  });

  test("that cannot be had is asked for again by the next call", async () => {
    const credentials = [...fake.credentials];
    fake.credentials.clear();
    await expect(provider.text.generate(call())).rejects.toBeInstanceOf(ProviderFailure);
    fake.credentials = new Map(credentials);
    expect((await provider.text.generate(call())).verdict).toEqual({ ok: true });
  });

  test("of another scope fault the key, and says why", async () => {
    const failure = await provider.text.generate(call({ settings: { scope: "GIGACHAT_API_B2B" } })).catch((
      e,
    ) => e);
    expect(failure.diagnosis).toMatchObject({ fault: "key", block: { reason: "key_restricted" } });
    expect(failure.message).toContain("scope");
  });

  test("one who leaves while it is fetched does not break it off for the others", async () => {
    const gone = new AbortController();
    const leaving = provider.text.generate(call({ signal: gone.signal }));
    const staying = provider.text.generate(call());
    gone.abort(new DOMException("gone", "AbortError"));
    await expect(leaving).rejects.toThrow("gone");
    expect((await staying).verdict).toEqual({ ok: true });
    expect(fake.tokensIssued).toBe(1);
  });
});

describe("a private root", () => {
  const PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----";

  test("goes to the client of the runtime, each certificate of the text", async () => {
    const made: string[][] = [];
    const request = trustingFetch(`${PEM}\n# another\n${PEM.replaceAll("\n", "\\n")}`, ({ caCerts }) => {
      made.push(caCerts);
      throw new Error("made");
    });
    await expect(request("https://gigachat.test")).rejects.toThrow("made");
    expect(made).toEqual([[PEM, PEM]]);
  });

  test("that is none fails the calls that need it, and without one nothing is made", async () => {
    const request = trustingFetch("a path/to/file.pem", () => {});
    await expect(request("https://gigachat.test")).rejects.toThrow("not in PEM form");
    expect(trustingFetch(undefined, () => {
      throw new Error("made");
    })).toBeTypeOf("function");
  });
});
