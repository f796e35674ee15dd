/** What the environment holds for stages, and which settings of a provider are taken. */
import { describe, expect, test } from "vitest";
import type { StageRow } from "../../../shared/database/stages.ts";
import { createKeyEncryption } from "../../../shared/secrets/key_encryption.ts";
import { fallbackOf, providerInEnvironment } from "../../../shared/stages/environment.ts";
import { seedFromEnvironment } from "../../../shared/stages/seed.ts";
import { PROVIDER_DEFINITIONS, STAGE_VARIABLES } from "../../../shared/stages/provider_definitions.ts";

const from = (variables: Record<string, string>) => (name: string) => variables[name];
const POEM = ["yandexgpt", "gemini", "openai", "gigachat"];

describe("a provider in the environment", () => {
  test("has a key, and everything that its calls need", () => {
    expect(
      providerInEnvironment("openai", from({ OPENAI_API_KEY: " sk-1 ", OPENAI_BASE_URL: "https://host/v1" })),
    ).toEqual({
      providerKind: "openai",
      variable: "OPENAI_API_KEY",
      secret: "sk-1",
      model: "gpt-5-mini",
      settings: { base_url: "https://host/v1" },
    });
    expect(providerInEnvironment("yandexgpt", from({ YANDEX_API_KEY: "k" }))).toBeNull();
    expect(providerInEnvironment("yandexgpt", from({ YANDEX_API_KEY: "k", YANDEX_FOLDER_ID: "b1g" })))
      .toMatchObject({
        settings: { folder_id: "b1g" },
      });
    expect(providerInEnvironment("openai", from({ OPENAI_API_KEY: "  " }))).toBeNull();
    expect(providerInEnvironment("nobody", from({}))).toBeNull();
  });

  test("may have several names for its key, and a model of its own", () => {
    const read = from({ YANDEX_API_KEY: "general", SPEECHKIT_API_KEY: "own", SPEECHKIT_VOICE: "filipp" });
    expect(providerInEnvironment("speechkit", read)).toMatchObject({
      variable: "SPEECHKIT_API_KEY",
      model: "filipp",
    });
    expect(providerInEnvironment("speechkit", from({ YANDEX_API_KEY: "general" }))).toMatchObject({
      secret: "general",
    });
  });

  test("serves a stage that nobody has set up: the first whose key is there, else the pool, else nobody", () => {
    expect(fallbackOf(POEM, from({ OPENAI_API_KEY: "a", GIGACHAT_CREDENTIALS: "b" }))).toEqual({
      providerKind: "openai",
      model: "gpt-5-mini",
      variable: "OPENAI_API_KEY",
    });
    expect(fallbackOf(POEM, from({ GEMINI_MODEL: "gemini-3.5-flash-lite" }))).toEqual({
      providerKind: "gemini",
      model: "gemini-3.5-flash-lite",
      variable: null,
    });
    expect(fallbackOf(["suno"], from({}))).toBeNull();
  });
});

test("the first run fills what was never set up, with keys that are encrypted", async () => {
  const encryption = createKeyEncryption("a-secret-of-more-than-22-characters");
  const row = (stage_type: string, kinds: string[], config: unknown = null) =>
    ({
      stage_type,
      produces: "text",
      description: "",
      provider_kinds: kinds.map((kind) => ({ kind, title: kind, shares_keys: false })),
      config,
    }) as StageRow;
  const seeded: Parameters<Parameters<typeof seedFromEnvironment>[0]["seed"]>[0] = [];
  const stages = {
    list: () => Promise.resolve([row("POEM", POEM), row("TITLE", POEM, {}), row("SONG", ["suno"])]),
    seed: (configs: typeof seeded) => {
      seeded.push(...configs);
      return Promise.resolve(configs.map(({ stageType }) => stageType));
    },
  };
  expect(await seedFromEnvironment(stages, encryption, from({ OPENAI_API_KEY: "sk-12345678" }))).toEqual([
    "POEM",
  ]);
  expect(seeded).toMatchObject([{
    stageType: "POEM",
    providerKind: "openai",
    key: { lastFour: "5678" },
    settings: {},
  }]);
  expect(await encryption.decrypt(seeded[0]!.key!.token)).toBe("sk-12345678");
  expect(JSON.stringify(seeded)).not.toContain("sk-12345678");
});

describe("a base URL", () => {
  const problem = (value: string, allowPrivate = false) =>
    PROVIDER_DEFINITIONS.openai!.settings.base_url!.problem(value, { allowPrivate });

  test.each(["https://api.deepseek.com/v1", "https://openrouter.ai/api/v1/"])("%s is taken", (url) => {
    expect(problem(url)).toBeNull();
  });

  test.each([
    "http://api.deepseek.com/v1",
    "https://localhost/v1",
    "https://127.0.0.1/v1",
    "https://169.254.169.254/latest",
    "https://[::1]/v1",
    "https://ollama.internal/v1",
    "https://user:pass@host.com/v1",
    "https://host.com/v1?key=x",
    "ftp://host.com",
    "host.com",
  ])("%s is not", (url) => {
    expect(problem(url)).not.toBeNull();
  });

  test("may be on one's own machine where that is allowed, and still be no nonsense", () => {
    expect(problem("http://127.0.0.1:11434/v1", true)).toBeNull();
    expect(problem("file:///etc/passwd", true)).not.toBeNull();
    expect(problem("http://a:b@127.0.0.1/v1", true)).not.toBeNull();
  });
});

test("every variable that is read is one that the docs name", () => {
  const docs = Deno.readTextFileSync(new URL("../../../docs/providers.md", import.meta.url));
  expect(STAGE_VARIABLES.filter((name) => !docs.includes(`\`${name}\``))).toEqual([]);
});
