import { describe, expect, test } from "vitest";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import { readJsonForm } from "../../../shared/api/upload_body.ts";
import { MAX_FORM_PARTS, readFormBody } from "../../../shared/http/form_body.ts";
import { WorkBudget } from "../../../shared/http/work_budget.ts";
import { systemClock } from "../../../shared/runtime/clock.ts";

const MAX_BYTES = 10 * 1024 * 1024;
const terms = () => ({
  maxBytes: MAX_BYTES,
  clock: systemClock,
  work: new WorkBudget(MAX_BYTES).begin("somebody"),
});

/** A form of so many small fields, sent in pieces of a size that divides no delimiter evenly. */
function formOf(parts: number, { boundary = "b", pieceBytes = 7 } = {}): Request {
  const part = `--${boundary}\r\ncontent-disposition: form-data; name="f"\r\n\r\nv\r\n`;
  const bytes = new TextEncoder().encode(`${part.repeat(parts)}--${boundary}--\r\n`);
  let at = 0;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      controller.enqueue(bytes.slice(at, at += pieceBytes));
    },
  });
  return new Request("http://function/", {
    method: "POST",
    headers: { "content-type": `multipart/form-data; boundary="${boundary}"` },
    body,
  });
}

const refusalOf = async (work: Promise<unknown>) => {
  const error = await work.then(() => null, (thrown) => thrown);
  expect(error).toBeInstanceOf(GatewayError);
  return error as GatewayError;
};

describe("a form", () => {
  test("of as many parts as allowed is read, in whatever pieces it comes", async () => {
    for (const pieceBytes of [1, 7, 4_096]) {
      const form = await readFormBody(formOf(MAX_FORM_PARTS, { boundary: "a--b", pieceBytes }), terms());
      expect(form.getAll("f")).toHaveLength(MAX_FORM_PARTS);
    }
  });

  test("of more parts is refused before all of it has come", async () => {
    const request = formOf(100_000, { pieceBytes: 4_096 });
    expect(await refusalOf(readFormBody(request, terms()))).toMatchObject({
      code: "body_too_large",
      publicMessage: "The form has more than 100 parts. Send fewer.",
    });
  });

  test.each(["multipart/form-data", `multipart/form-data; boundary=${"x".repeat(71)}`])(
    "of the type %s, without a boundary that may be one, is none",
    async (contentType) => {
      const request = new Request("http://function/", {
        method: "POST",
        headers: { "content-type": contentType },
        body: "--x--",
      });
      expect(await refusalOf(readFormBody(request, terms()))).toMatchObject({ code: "invalid_request" });
    },
  );

  test("holds no JSON that a body of its own might not", async () => {
    const withJson = (json: string) => {
      const form = new FormData();
      form.set("post", json);
      return readJsonForm(new Request("http://function/", { method: "POST", body: form }), "post", {
        ...terms(),
        maxJsonBytes: 2 * 1024 * 1024,
      });
    };
    expect(await withJson('{"text": "Wörter"}')).toEqual({ body: { text: "Wörter" }, files: [] });
    expect(await refusalOf(withJson("[".repeat(5_000) + "]".repeat(5_000)))).toMatchObject({
      code: "invalid_json",
    });
    expect(await refusalOf(withJson(`[${"[],".repeat(600_000)}[]]`))).toMatchObject({
      code: "body_too_large",
    });
  });
});
