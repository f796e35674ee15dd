import * as z from "zod";
import { GatewayError } from "../../../contract/gateway_error.ts";
import { isObject } from "../../../contract/is_object.ts";
import type { StoredContext, StoredTurn } from "../../../database/jobs/stored_responses.ts";
import { openFields } from "../../fields.ts";
import { type Fault, invalidRequest, listOf, validated } from "../../validated.ts";
import { objectId, uuidIn } from "../objects.ts";

/** A text is a list of one part. */
const partsOf = <Part extends z.ZodType>(part: Part) =>
  z.preprocess(
    (value) => typeof value === "string" ? [{ type: "input_text", text: value }] : value,
    listOf(part, { error: "must be a text or a list of parts" }),
  );

const NO_FILE = "is needed, or a file_id";
/** Parts of chat completions, which clients send here as well (LangChain's pictures). */
function asInputPart(value: unknown): unknown {
  if (!isObject(value)) return value;
  const { image_url: image, file } = value;
  if (value.type === "image_url") {
    return {
      ...value,
      type: "input_image",
      ...(isObject(image) && { image_url: image.url, detail: image.detail }),
    };
  }
  return value.type === "file" && isObject(file) ? { ...file, type: "input_file" } : value;
}
/** A file that is named by its id stands where its data or a link to it would. */
function withFileId(value: unknown): unknown {
  if (!isObject(value) || typeof value.file_id !== "string") return value;
  const field = value.type === "input_image" ? "image_url" : "file_data";
  return (value[field] ?? value.file_url ?? null) === null ? { ...value, [field]: value.file_id } : value;
}
const partWith = <Part extends z.ZodType>(part: Part) =>
  z.preprocess((value) => withFileId(asInputPart(value)), part);
const parts = [
  openFields({ type: z.enum(["input_text", "output_text", "text"]), text: z.string() }),
  openFields({
    type: z.literal("input_image"),
    image_url: z.string({ error: NO_FILE }),
    detail: z.string().optional(),
  }),
  openFields({
    type: z.literal("input_file"),
    file_data: z.string().min(1).optional(),
    file_url: z.string().min(1).optional(),
    filename: z.string().optional(),
  }).refine(({ file_data, file_url }) => file_data !== undefined || file_url !== undefined, {
    path: ["file_data"],
    error: NO_FILE,
  }),
] as const;
const spoken = partWith(z.discriminatedUnion("type", [
  ...parts,
  openFields({ type: z.literal("refusal"), refusal: z.string() }),
  openFields({ type: z.literal("input_audio"), input_audio: z.unknown() }),
], {
  error: "must be a part of type input_text, input_image, input_file, input_audio, output_text or refusal",
}));
const output = partsOf(partWith(
  z.discriminatedUnion("type", [...parts], {
    error: "must be a part of type input_text, input_image or input_file",
  }),
));

const id = z.string().max(200).optional();

/**
 * What OpenAI's own tools did, in conversations that were begun there. No model here knows these tools; an agent that is refused
 * for its own past is refused for ever, so the items are left out, and named as ignored.
 */
export const DONE_ELSEWHERE = [
  "apply_patch_call",
  "apply_patch_call_output",
  "code_interpreter_call",
  "compaction",
  "computer_call",
  "computer_call_output",
  "file_search_call",
  "image_generation_call",
  "local_shell_call",
  "local_shell_call_output",
  "mcp_approval_request",
  "mcp_approval_response",
  "mcp_call",
  "mcp_list_tools",
  "shell_call",
  "shell_call_output",
  "tool_search_call",
  "tool_search_output",
] as const;
export const isDoneElsewhere = ({ type }: { type: string }) =>
  (DONE_ELSEWHERE as readonly string[]).includes(type);

const item = z.preprocess(
  (value) => {
    if (!isObject(value) || (value.type ?? null) !== null) return value;
    return {
      ...value,
      type: value.role === undefined && value.id !== undefined ? "item_reference" : "message",
    };
  },
  z.discriminatedUnion("type", [
    openFields({
      type: z.literal("message"),
      id,
      role: z.enum(["user", "assistant", "system", "developer"]),
      content: partsOf(spoken),
    }),
    openFields({
      type: z.literal("function_call"),
      id,
      call_id: z.string(),
      name: z.string(),
      arguments: z.string().default(""),
    }),
    openFields({
      type: z.literal("custom_tool_call"),
      id,
      call_id: z.string(),
      name: z.string(),
      input: z.string(),
    }),
    openFields({ type: z.literal("function_call_output"), id, call_id: z.string(), output }),
    openFields({ type: z.literal("custom_tool_call_output"), id, call_id: z.string(), output }),
    // What a model thought and what it searched for are not told again.
    openFields({ type: z.literal("reasoning"), id }),
    openFields({ type: z.literal("web_search_call"), id }),
    openFields({ type: z.enum(DONE_ELSEWHERE), id }),
    openFields({ type: z.literal("item_reference"), id: z.string().max(200) }),
  ], {
    error:
      "must be a message, a function_call or custom_tool_call, the output of one, reasoning, a web_search_call or an item_reference",
  }),
);

/** What `input` is: a text, or a list of items. */
export const responseInput = z.preprocess(
  (value) => typeof value === "string" ? [{ type: "message", role: "user", content: value }] : value,
  listOf(item, { error: "must be a text or a list of items" }),
);

/** An item of a request. */
export type InputItem = z.output<typeof item>;
/** One that says itself what it is. */
export type SaidItem = Exclude<InputItem, { type: "item_reference" }>;

/** Items that a request brings, goes on from and names, each with the field that it stands in. */
export interface PlacedItem {
  item: SaidItem;
  place: string;
}

const PREFIXES: Readonly<Record<string, string>> = {
  message: "msg",
  function_call: "fc",
  function_call_output: "fco",
  custom_tool_call: "ctc",
  custom_tool_call_output: "ctco",
  reasoning: "rs",
  web_search_call: "ws",
};
/** Items of an answer are counted from here, so that they are not mistaken for those of the input. */
const FIRST_OUTPUT = 0x8000;
const ITEM_ID = /^[a-z]+_([0-9a-f]{32})[0-9a-f]{4}$/;

/** The id of the nth item of an answer, in which its response's own id is found again. */
export function outputItemId(type: string, responseId: string, nth: number): string {
  return itemId(type, responseId, FIRST_OUTPUT + nth);
}

function itemId(type: string, responseId: string, nth: number): string {
  return `${PREFIXES[type]}_${responseId.replaceAll("-", "")}${nth.toString(16).padStart(4, "0")}`;
}

/** The items as they are kept, each with an id. */
export function storableItems(items: readonly SaidItem[], responseId: string): unknown[] {
  return items.filter((one) => !isDoneElsewhere(one))
    .map((one, nth) => ({ ...one, id: one.id ?? itemId(one.type, responseId, nth) }));
}

/** What is kept elsewhere that a request needs: responses by their ids. */
export interface NamedResponses {
  previousId: string | null;
  otherIds: string[];
}

/**
 * The kept responses that a request goes on from; null: none.
 * @throws GatewayError `invalid_request`, `not_found` for ids that are none
 */
export function namedResponses(
  previous: string | undefined,
  items: readonly InputItem[],
): NamedResponses | null {
  const previousId = previous === undefined ? null : uuidIn("response", previous);
  const otherIds = new Set<string>();
  const faults: Fault[] = [];
  items.forEach((one, i) => {
    if (one.type !== "item_reference") return;
    const hex = ITEM_ID.exec(one.id)?.[1];
    if (hex === undefined) faults.push(noSuchItem(one.id, i));
    else otherIds.add(uuidIn("response", objectId("response", hex)));
  });
  if (faults.length > 0) throw invalidRequest(faults);
  return previousId === null && otherIds.size === 0 ? null : { previousId, otherIds: [...otherIds] };
}

const noSuchItem = (name: string, i: number): Fault => ({
  field: `input[${i}].id`,
  problem: `there is no item ${
    JSON.stringify(name.slice(0, 100))
  } here, or it is not kept any more: send it whole, and store: false`,
});

/**
 * All that a request says, what it goes on from first.
 * @throws GatewayError `invalid_request` for references to what there is not
 */
export function wholeConversation(
  items: readonly InputItem[],
  { turns, others }: StoredContext,
): { before: PlacedItem[]; own: PlacedItem[] } {
  const before = turns.flatMap((turn) =>
    itemsOf(turn).map((one): PlacedItem => ({ item: one, place: "previous_response_id" }))
  );
  const known = new Map<string, SaidItem>();
  for (const turn of [...turns, ...others]) {
    if (turn.input === null || turn.output === null) continue;
    for (const one of itemsOf(turn)) if (one.id !== undefined) known.set(one.id, one);
  }
  const own = items.map((one, i): PlacedItem => {
    if (one.type !== "item_reference") return { item: one, place: `input[${i}]` };
    const named = known.get(one.id);
    if (named === undefined) throw invalidRequest([noSuchItem(one.id, i)]);
    return { item: named, place: `input[${i}]` };
  });
  return { before, own };
}

const kept = listOf(item);

/** @throws GatewayError `invalid_request` for a response that nothing can go on from */
function itemsOf({ id, state, input, output }: StoredTurn): SaidItem[] {
  if (input === null || output === null) {
    throw invalidRequest([{
      field: "previous_response_id",
      problem: input === null
        ? `what ${
          objectId("response", id)
        } was asked with was too large to be kept: send what was said in input`
        : `${objectId("response", id)} has no answer to go on from: it is ${state}`,
    }]);
  }
  const items = validated(kept, [...input, ...output]);
  return items.map((one) => {
    if (one.type === "item_reference") throw new GatewayError("internal", { detail: "a reference was kept" });
    return one;
  });
}
