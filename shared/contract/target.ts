import type { Caller } from "./caller.ts";

/** What a stage may make. Anything but text is a job. */
export const PRODUCES = ["text", "speech", "song", "video"] as const;
export type Produces = (typeof PRODUCES)[number];

/** A stage as a model's name, and as the place of its key: `stage:POEM`. */
export const STAGE_PREFIX = "stage:";

/** What a call asks to be served by. */
export type Target =
  /** In order of preference; at least one, and none of them is a stage. */
  | { kind: "models"; models: string[] }
  | { kind: "stage"; stageType: string };

/** A target that has been looked up: what admission needs to know of it. */
export interface ServedBy {
  /** In order of preference; at least one. A stage is a model to admission, alone and by the name `stage:POEM`. */
  models: string[];
  /** Keys that are not to serve it: those that are not its stage's, or that are some stage's where it asks for none. */
  excludeKeys: readonly string[];
  /** Null: it asks for models. */
  stage: ServedStage | null;
}

/** A stage as it is served now. */
export interface ServedStage {
  stageType: string;
  produces: Produces;
  /** `environment`: nobody has set it up, and what serves it is what the environment holds. */
  source: "configuration" | "environment";
  providerKind: string;
}

/**
 * Looks a target up, again for every call: what a person saves serves the next one.
 * @throws GatewayError `unknown_stage`, `stage_not_set_up`, `database_unavailable`
 */
export type ResolveTarget = (target: Target, caller: Caller) => Promise<ServedBy>;
