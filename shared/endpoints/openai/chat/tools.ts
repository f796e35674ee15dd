import type { Prompt, Tool } from "../../../contract/content.ts";
import type { Chat } from "./chat_request.ts";
import { withoutDialect } from "./response_format.ts";
import { isOpenApi } from "../../response_schema.ts";
import { invalidRequest } from "../../validated.ts";

type ToolFields = Pick<Prompt, "tools" | "toolConfig">;
type Asked = Pick<Chat, "tools" | "tool_choice" | "web_search_options">;

/** Google's own search, for models that have it; others refuse it in their words. */
const WEB_SEARCH: Tool = { googleSearch: {} };

/**
 * `tools` and `tool_choice` as function declarations and the mode of calling them. A function with `strict` makes upstream
 * hold to the schemas (`VALIDATED`, or `ANY`, which does so by itself).
 * @throws GatewayError `invalid_request` for a choice that names no tool
 */
export function toolFields(
  { tools = [], tool_choice: choice, web_search_options: search }: Asked,
): ToolFields {
  const searching = search === undefined ? [] : [WEB_SEARCH];
  if (tools.length === 0) {
    if (choice === undefined || choice.type === "none" || choice.type === "auto") {
      return searching.length > 0 && choice?.type !== "none" ? { tools: searching } : {};
    }
    throw invalidRequest([{ field: "tool_choice", problem: "there are no tools to choose from" }]);
  }
  const functions = tools.map((tool) => tool.function);
  const strict = functions.some((one) => one.strict === true);
  return {
    tools: [{ functionDeclarations: functions.map(declaration) }, ...searching],
    ...toolConfig(choice, functions.map((one) => one.name), strict),
  };
}

type Choice = NonNullable<Asked["tool_choice"]>;

function toolConfig(
  choice: Choice | undefined,
  names: string[],
  strict: boolean,
): Pick<Prompt, "toolConfig"> {
  const calling = (mode: string, allowed?: string[]) => ({
    toolConfig: {
      functionCallingConfig: { mode, ...(allowed !== undefined && { allowedFunctionNames: allowed }) },
    },
  });
  switch (choice?.type) {
    case undefined:
    case "auto":
      return strict ? calling("VALIDATED") : {};
    case "none":
      return calling("NONE");
    case "required":
      return calling("ANY");
    case "function":
      return calling("ANY", [known(choice.function.name, names, "tool_choice.function.name")]);
    case "allowed_tools": {
      const allowed = choice.allowed_tools.tools.map((tool, index) =>
        known(tool.function.name, names, `tool_choice.allowed_tools.tools[${index}].function.name`)
      );
      // A list of allowed names goes with these two modes only.
      return calling(choice.allowed_tools.mode === "required" ? "ANY" : "VALIDATED", allowed);
    }
  }
}

function known(name: string, names: string[], field: string): string {
  if (names.includes(name)) return name;
  throw invalidRequest([{ field, problem: `there is no tool named ${JSON.stringify(name)}` }]);
}

/** The tools that take any text: their calls are handed out with it instead of arguments. */
export function customTools({ tools = [] }: Pick<Chat, "tools">): ReadonlySet<string> {
  return new Set(tools.flatMap((tool) => tool.type === "custom" ? [tool.function.name] : []));
}

type FunctionFields = NonNullable<Chat["tools"]>[number]["function"];

/**
 * Parameters go where every model with tools takes them (`parameters`) unless they use more than that knows. A function
 * without parameters has none: upstream refuses an object without properties.
 */
export function declaration({ name, description, parameters }: FunctionFields): Tool {
  const declared = { name, ...(description !== undefined && { description }) };
  if (parameters === undefined) return declared;
  const schema = withoutDialect(parameters);
  if (Object.keys(Object(schema.properties)).length === 0 && schema.$ref === undefined) return declared;
  return { ...declared, [isOpenApi(schema) ? "parameters" : "parametersJsonSchema"]: schema };
}
