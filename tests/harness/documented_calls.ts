/** Calls of the function `api` whose answers are held against its OpenAPI document. */
import { Ajv2020 } from "ajv/dist/2020.js";
import { expect } from "vitest";
import { API_ROUTES } from "../../shared/api/api_endpoint.ts";
import { openApiDocument } from "../../shared/api/openapi.ts";
import type { Answer } from "./media.ts";
import type { ApiUnderTest } from "./media_api.ts";

export const ajv = new Ajv2020({ strict: false, validateFormats: false });
export const document = openApiDocument(API_ROUTES, "https://project.example/functions/v1/api") as Answer;

/** Asks, holds the answer against the document, and answers its JSON with `status_code`; what is no JSON as it is. */
export function documentedCalls(api: Pick<ApiUnderTest, "call">) {
  return async (
    method: string,
    path: string,
    init: Parameters<ApiUnderTest["call"]>[2] = {},
  ): Promise<Answer> => {
    const response = await api.call(method, path, init);
    const { pathname } = new URL(path, "http://x");
    const route = API_ROUTES.find((each) =>
      each.method === method.toLowerCase() &&
      new RegExp(`^${each.path.replace(/\{(name|key)\}/g, ".+").replace(/\{\w+\}/g, "[^/]+")}$`).test(
        pathname,
      )
    );
    expect(route, `${method} ${path}`).toBeDefined();
    const { responses } = document.paths[route!.path][route!.method];
    const described = responses[response.status] ?? document.components.responses.Error;
    const schema = described.content?.["application/json"]?.schema;
    if (schema === undefined) return response;
    const body = await response.json();
    const valid = ajv.compile({ ...schema, components: document.components });
    expect(valid(body), JSON.stringify([valid.errors, body])).toBe(true);
    return { status_code: response.status, ...body };
  };
}
