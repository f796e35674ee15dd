import { describe, expect, test } from "vitest";
import type { Caller } from "../../../shared/contract/caller.ts";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { Stage } from "../../../shared/database/stages.ts";
import { targetResolver } from "../../../shared/stages/resolve_target.ts";

const OWNER: Caller = { kind: "project", consumerId: null, tokenId: null, name: "default" };
const CONSUMER: Caller = { kind: "service", consumerId: "c1", tokenId: null, name: "bot" };

/** The resolver over one stage's row, and the questions that it puts to the database. */
function resolver(stage?: Stage, environment: Record<string, string> = {}) {
  const asked: string[] = [];
  const resolve = targetResolver({
    stages: {
      find(stageType) {
        asked.push(`find ${stageType}`);
        return stage === undefined ? expect.unreachable() : Promise.resolve(stage);
      },
      ownKeys() {
        asked.push("ownKeys");
        return Promise.resolve(["key-of-poem"]);
      },
      fromEnvironment({ model, envVarName }) {
        asked.push(`fromEnvironment ${model} ${envVarName}`);
        return Promise.resolve({ excludeKeys: ["key-of-song"] });
      },
      list: () => expect.unreachable("nothing can be kept"),
      seed: () => expect.unreachable("nothing can be kept"),
    },
    encryption() {
      throw new GatewayError("gateway_misconfigured");
    },
    read: (name) => environment[name],
  });
  return { asked, resolve };
}

describe("models", () => {
  test.each<[string, string[], Caller]>([
    ["Google's, of a consumer", ["gemma-4-31b-it"], CONSUMER],
    ["another provider's, of the owner", ["openai/gpt-5-mini"], OWNER],
    ["one with a slash that is no provider's", ["publishers/google"], CONSUMER],
  ])("%s: any key serves, and nothing is asked", async (_, models, caller) => {
    const { asked, resolve } = resolver();
    expect(await resolve({ kind: "models", models }, caller)).toEqual({
      models,
      excludeKeys: [],
      stage: null,
    });
    expect(asked).toEqual([]);
  });

  test("another provider's, of a consumer: not by the keys that are there for stages", async () => {
    const { asked, resolve } = resolver();
    const models = ["gemma-4-31b-it", "openai/gpt-5-mini"];
    expect(await resolve({ kind: "models", models }, CONSUMER)).toEqual({
      models,
      excludeKeys: ["key-of-poem"],
      stage: null,
    });
    expect(asked).toEqual(["ownKeys"]);
  });
});

describe("a stage", () => {
  test("that is set up is served by its key alone, and looked up once", async () => {
    const { asked, resolve } = resolver({
      status: "set_up",
      stage_type: "POEM",
      produces: "text",
      provider_kind: "openai",
      model: "openai/gpt-5-mini",
      config_status: "active",
      config_reason: null,
      exclude_keys: ["key-of-song"],
    });
    expect(await resolve({ kind: "stage", stageType: "POEM" }, CONSUMER)).toEqual({
      models: ["stage:POEM"],
      excludeKeys: ["key-of-song"],
      stage: { stageType: "POEM", produces: "text", source: "configuration", providerKind: "openai" },
    });
    expect(asked).toEqual(["find POEM"]);
  });

  const notSetUp: Stage = {
    status: "not_set_up",
    stage_type: "SONG",
    produces: "song",
    seeded: false,
    provider_kinds: ["suno"],
  };

  test("that nobody has set up is served by the environment", async () => {
    const { asked, resolve } = resolver(notSetUp, { SUNO_API_KEY: "suno-good", SUNO_MODEL: "V5" });
    expect(await resolve({ kind: "stage", stageType: "SONG" }, OWNER)).toEqual({
      models: ["stage:SONG"],
      excludeKeys: ["key-of-song"],
      stage: { stageType: "SONG", produces: "song", source: "environment", providerKind: "suno" },
    });
    expect(asked).toEqual(["find SONG", "fromEnvironment V5 SUNO_API_KEY"]);
  });

  test.each<[string, Stage]>([
    ["stage_not_set_up", notSetUp],
    ["unknown_stage", { status: "unknown", stages: ["POEM"] }],
  ])("%s", async (code, stage) => {
    await expect(resolver(stage).resolve({ kind: "stage", stageType: "SONG" }, OWNER)).rejects.toMatchObject({
      code,
    });
  });
});
