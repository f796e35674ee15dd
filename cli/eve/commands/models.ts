import { isEmbeddingModel } from "../../../shared/contract/embedding.ts";
import type { Tables } from "../../../shared/database/database_types.ts";
import type { Command } from "../command.ts";
import { CliFailure, misuse } from "../failure.ts";
import { answered } from "../rows.ts";
import { green, table, yellow } from "../table.ts";
import { readLimit } from "../values.ts";

const COLUMNS =
  "model, is_active, replaced_by, provider, supports_system, supports_json, supports_tools, supports_thinking, max_output_tokens";

export const modelCommands: Command[] = [
  {
    name: "models list",
    summary: "the models, and what they can do",
    arguments: [],
    options: {},
    examples: ["models list"],
    async run(_given, { connect }) {
      const models = answered(
        await connect().tables.from("google_ai_model_limits").select(COLUMNS).order("model"),
      );
      const rows = models.map((row) => [
        row.model,
        row.is_active ? green("on") : yellow("off"),
        row.replaced_by ?? "",
        isEmbeddingModel(row.model) ? "embeddings" : ([
          ["system", row.supports_system],
          ["json", row.supports_json],
          ["tools", row.supports_tools],
          ["thinking", row.supports_thinking],
        ] as const).filter(([, can]) => can).map(([name]) => name).join(" "),
      ]);
      return { json: models, text: table(["model", "state", "replaced by", "can"], rows) };
    },
  },
  {
    name: "models set",
    summary: "switch a model on or off, or name the model that serves in its place",
    about: "The next reservation knows. Models are added with their limits: limits import --add-models.",
    arguments: ["MODEL"],
    options: {
      on: { help: "it can be asked for" },
      off: { help: "asked for, it is an unknown model, unless another serves in its place" },
      "replaced-by": { value: "MODEL", help: "this one serves when it is asked for; none: itself" },
      "max-output-tokens": {
        value: "N",
        help: "most output tokens of one call; none: the model's own maximum",
      },
    },
    examples: ["models set gemma-3-27b --replaced-by gemma-4-31b-it", "models set gemini-2.5-flash --off"],
    async run(given, { connect }) {
      const model = given.arguments[0]!;
      if (given.switch("on") && given.switch("off")) throw misuse("Say --on or --off, not both.");
      const successor = given.option("replaced-by");
      if (successor === model) {
        throw misuse("A model cannot replace itself: --replaced-by none takes the successor away.");
      }
      const longest = readLimit(given, "max-output-tokens");
      const changes = {
        ...(given.switch("on") && { is_active: true }),
        ...(given.switch("off") && { is_active: false }),
        ...(successor !== undefined && { replaced_by: successor === "none" ? null : successor }),
        ...(longest !== undefined && { max_output_tokens: longest }),
      };
      if (Object.keys(changes).length === 0) {
        throw misuse("Give at least one of --on, --off, --replaced-by and --max-output-tokens.");
      }
      const rows = connect().tables.from("google_ai_model_limits");
      if (successor !== undefined && successor !== "none") {
        const known = answered(await rows.select("model").eq("model", successor));
        if (known.length === 0) {
          throw new CliFailure(`There is no model named ${successor}. See \`models list\`.`);
        }
      }
      const [row] = answered(await rows.update(changes).eq("model", model).select(COLUMNS));
      if (row === undefined) throw new CliFailure(`There is no model named ${model}. See \`models list\`.`);
      const all = answered(await rows.select("model, is_active, replaced_by"));
      return { json: row, text: whatItMeans(row, all) };
    },
  },
];

type Model = Pick<Tables<"google_ai_model_limits">, "model" | "is_active" | "replaced_by">;

/** What callers that ask for it get from now on, and callers of the models that it replaces. */
function whatItMeans({ model, is_active, replaced_by }: Model, all: readonly Model[]): string {
  const state = `${model} is ${is_active ? "on" : "off"}`;
  const successor = all.find((one) => one.model === replaced_by);
  if (replaced_by !== null) {
    if (successor?.is_active === false) {
      return `${state}, and ${replaced_by}, which would serve in its place, is off: asked for, it is an unknown model.`;
    }
    const anyway = is_active ? "" : " all the same, until you say --replaced-by none";
    return `${state}, and ${replaced_by} serves in its place${anyway}.`;
  }
  const servedFor = all.filter((one) => one.replaced_by === model).map((one) => one.model).sort();
  return is_active || servedFor.length === 0
    ? `${state}.`
    : `${state}, and so ${servedFor.length === 1 ? "is" : "are"} ${
      servedFor.join(", ")
    }, for which it served.`;
}
