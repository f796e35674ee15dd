/**
 * The models that are served and the limits in force, which may change while the emulator runs.
 */

import { fingerprint } from "./fingerprint.ts";
import type { Tier } from "./errors.ts";
import { type Limits, type ModelRow, modelRows } from "./models.ts";
import type { Settings } from "./options.ts";

export class ModelRegistry {
  #models: ModelRow[] = [];
  /** By project, then by model. */
  #ownLimits: Record<string, Record<string, Partial<Limits>>> = {};

  constructor(private readonly settings: Settings) {
    this.restore();
  }

  /** Models and limits are again what the emulator was started with. */
  restore(): void {
    this.#models = modelRows(this.settings.models);
    this.#ownLimits = {};
    for (const [name, project] of Object.entries(this.settings.projects)) {
      this.#ownLimits[name] = structuredClone(project.limits);
    }
  }

  /** What `GET models` lists. */
  get listed(): ModelRow[] {
    return this.#models.filter((model) => !model.withdrawn);
  }

  /** The model of that name, unless it has been withdrawn. */
  model(name: string): ModelRow | undefined {
    return this.listed.find((model) => model.name === name);
  }

  limits(project: string, model: string): Limits {
    const own = this.#models.find((one) => one.name === model)?.limits ?? { rpm: null, tpm: null, rpd: null };
    return { ...own, ...this.#ownLimits[project]?.[model] };
  }

  /**
   * @param project null changes the model's limits for every project that has none of its own.
   * @param limits what is left out stays as it is.
   * @throws Error when there is no such model.
   */
  setLimits(project: string | null, model: string, limits: Partial<Limits>): void {
    const row = this.#models.find((one) => one.name === model);
    if (!row) {
      throw new Error(`no model "${model}"; there are: ${this.#models.map((one) => one.name).join(", ")}`);
    }
    if (project === null) {
      row.limits = { ...row.limits, ...limits };
      return;
    }
    const own = this.#ownLimits[project] ??= {};
    own[model] = { ...own[model], ...limits };
  }

  tier(project: string): Tier {
    return this.settings.projects[project]?.tier ?? "free";
  }

  /** Google's number of the project: as configured, or twelve digits made from its name. */
  projectNumber(project: string): string {
    const made = BigInt(`0x${fingerprint(project)}`) % 900_000_000_000n + 100_000_000_000n;
    return this.settings.projects[project]?.number ?? String(made);
  }
}
