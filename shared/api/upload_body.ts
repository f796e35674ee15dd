import type * as z from "zod";
import { GatewayError } from "../contract/gateway_error.ts";
import { validated } from "../endpoints/validated.ts";
import { BODY_TIMEOUT_MS, readBody } from "../http/body.ts";
import { isForm, readFormBody } from "../http/form_body.ts";
import { parseJson } from "../http/json.ts";
import type { JsonBodyTerms } from "../http/json_body.ts";
import { BODY_COPIES } from "../http/work_budget.ts";

export interface FileTerms<Fields extends z.ZodObject> extends JsonBodyTerms {
  /** What a form's other fields must be: they come before those of the query. */
  fields: Fields;
  query: z.output<Fields>;
}

/** Beside the file a form has a handful of fields. */
const MAX_FORM_FIELDS = 20;

/**
 * A file out of a request: the body as it is, or the field `file` of a multipart form.
 * @throws GatewayError `body_too_large`, `body_timeout`, `gateway_busy`, `invalid_request`, what `confirmCaller` throws
 */
export async function readFile<Fields extends z.ZodObject>(
  request: Request,
  { fields, query, ...terms }: FileTerms<Fields>,
): Promise<{ bytes: Uint8Array<ArrayBuffer>; mimeType: string; fields: z.output<Fields> }> {
  const contentType = request.headers.get("content-type") ?? "application/octet-stream";
  if (!isForm(contentType)) {
    const { maxBytes, clock, work, confirmCaller } = terms;
    const bytes = await readBody(request, {
      maxBytes,
      timeoutMs: BODY_TIMEOUT_MS,
      clock,
      onBytes: (count) => work.add(count * BODY_COPIES),
      onLarge: confirmCaller,
    }) as Uint8Array<ArrayBuffer>;
    return { bytes, mimeType: contentType, fields: query };
  }
  const form = await readFormBody(request, terms);
  const file = form.get("file");
  if (!(file instanceof File)) {
    throw new GatewayError("invalid_request", {
      message: "The form needs the file in a field named `file`.",
    });
  }
  const said = [...form.entries()].filter(([name]) => name !== "file");
  if (said.length > MAX_FORM_FIELDS || said.some(([, value]) => typeof value !== "string")) {
    throw new GatewayError("invalid_request", {
      message: "The form has one file, in `file`, and texts beside it.",
    });
  }
  // Fields of the query that the form does not say itself.
  const parameters = Object.fromEntries(new URL(request.url).searchParams);
  return {
    bytes: new Uint8Array(await file.arrayBuffer()),
    mimeType: file.type || "application/octet-stream",
    fields: validated(fields, { ...parameters, ...Object.fromEntries(said) }),
  };
}

/**
 * JSON and files out of a multipart form: the JSON is the text of one field, and all others are files.
 * @throws GatewayError `body_too_large`, `body_timeout`, `gateway_busy`, `invalid_request`, `invalid_json`
 */
export async function readJsonForm(
  request: Request,
  field: string,
  { maxJsonBytes, ...terms }: JsonBodyTerms & { maxJsonBytes: number },
): Promise<{ body: unknown; files: File[] }> {
  const form = await readFormBody(request, terms);
  const said = form.getAll(field);
  const files = [...form.entries()].filter(([name]) => name !== field).map(([, value]) => value);
  const [text] = said;
  if (said.length !== 1 || typeof text !== "string" || !files.every((file) => file instanceof File)) {
    throw new GatewayError("invalid_request", {
      message: `The form has JSON in its field \`${field}\`, and files beside it.`,
    });
  }
  if (text.length > maxJsonBytes) throw new GatewayError("body_too_large");
  return { body: parseJson(new TextEncoder().encode(text)), files };
}
