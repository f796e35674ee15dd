import type { Content, InlineData, Part, Prompt } from "../../contract/content.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import { type JsonAllowance, MAX_JSON_VALUES } from "../../http/json.ts";
import { isLink, type LinkedMedia } from "../linked_media.ts";
import { marksOf, UNSIGNED_CALL, wantsSignatures } from "../tool_call_id.ts";
import { toolResponse } from "../tool_response.ts";
import { invalidRequest } from "../validated.ts";
import type {
  AnthropicQuestion,
  AssistantBlock,
  Message,
  ReadableBlock,
  ResultBlock,
  UserBlock,
} from "./request.ts";
import { signatureIn } from "./signature.ts";

/** Documents that models read as they are. */
const DOCUMENT_TYPE = "application/pdf";
export interface TurnTerms {
  model: string;
  linked: LinkedMedia;
}

interface Placed<Block> {
  block: Block;
  /** `messages[1].content[0]` */
  place: string;
}

/** Messages of one role that follow each other: they are one turn, as the API joins them. */
type Run =
  | { role: "user"; blocks: Placed<UserBlock>[] }
  | { role: "assistant"; blocks: Placed<AssistantBlock>[] };

type Call = Extract<AssistantBlock, { type: "tool_use" }>;

/** A result in place of one that never came: upstream wants one for each call, and a conversation that lost one goes on. */
const NO_RESULT = { error: "The tool gave no result." };

/**
 * Messages as turns, and the system's words. Results of tools stand at the head of the turn after their calls, in the calls' order; one that
 * comes for no call of that turn is told in words, and a call without one gets a result that says so.
 * @throws GatewayError `invalid_request`, `empty_prompt`, `body_too_large` for results of too many values
 */
export function promptTurns(
  { messages, system }: Pick<AnthropicQuestion, "messages" | "system">,
  terms: TurnTerms,
): Pick<Prompt, "contents" | "systemInstruction"> {
  const said: Part[] = textParts(system ?? []);
  // Results are JSON inside of texts; all of them together may hold what a body may.
  const allowance: JsonAllowance = { values: MAX_JSON_VALUES };
  const contents: Content[] = [];
  let unanswered: Call[] = [];
  for (const run of runsOf(messages, said)) {
    if (run.role === "assistant") {
      push(contents, "model", assistantParts(run.blocks, terms.model));
      unanswered = run.blocks.flatMap(({ block }) => block.type === "tool_use" ? [block] : []);
    } else {
      push(contents, "user", userParts(run.blocks, unanswered, terms, allowance));
      unanswered = [];
    }
  }
  if (unanswered.length > 0) push(contents, "user", userParts([], unanswered, terms, allowance));
  if (contents.length === 0) throw new GatewayError("empty_prompt");
  return { contents, ...(said.length > 0 && { systemInstruction: { parts: said } }) };
}

/** Every link of the messages, and the field it stands in. */
export function linksIn({ messages }: Pick<AnthropicQuestion, "messages">): Map<string, string> {
  const places = new Map<string, string>();
  const checkBlock = (block: ReadableBlock, place: string) => {
    if (block.type !== "image" && block.type !== "document") return;
    if (block.source.type === "content") {
      block.source.content.forEach((inner, k) => checkBlock(inner, `${place}.source.content[${k}]`));
    } else if (block.source.type === "url" && !places.has(block.source.url)) {
      places.set(block.source.url, `${place}.source.url`);
    }
  };
  messages.forEach((message, i) => {
    if (message.role !== "user") return;
    message.content.forEach((block, j) => {
      const place = `messages[${i}].content[${j}]`;
      if (block.type !== "tool_result") checkBlock(block, place);
      else block.content?.forEach((inner, k) => checkBlock(inner, `${place}.content[${k}]`));
    });
  });
  return places;
}

/** What the system says between turns is added to `said`. */
function runsOf(messages: Message[], said: Part[]): Run[] {
  const runs: Run[] = [];
  messages.forEach((message, i) => {
    if (message.role === "system") return void said.push(...textParts(message.content));
    const blocks = message.content.map((block, j) => ({ block, place: `messages[${i}].content[${j}]` }));
    const last = runs.at(-1);
    if (last?.role === message.role) (last.blocks as Placed<unknown>[]).push(...blocks);
    else runs.push({ role: message.role, blocks } as Run);
  });
  return runs;
}

function textParts(blocks: { text: string }[]): Part[] {
  return blocks.filter(({ text }) => text !== "").map(({ text }) => ({ text }));
}

/** An empty turn is left out: upstream refuses it. */
function push(contents: Content[], role: "user" | "model", parts: Part[]): void {
  if (parts.length > 0) contents.push({ role, parts });
}

function assistantParts(blocks: Placed<AssistantBlock>[], model: string): Part[] {
  const parts: Part[] = [];
  /** Of the thoughts before a part, which say what signs that part. */
  let signature: string | null = null;
  let isFirstCall = true;
  for (const { block } of blocks) {
    switch (block.type) {
      case "thinking":
        signature = signatureIn(block.signature ?? "");
        break;
      case "redacted_thinking":
        break;
      case "text":
        if (block.text === "") break;
        parts.push({ text: block.text, ...(signature !== null && { thoughtSignature: signature }) });
        signature = null;
        break;
      case "tool_use": {
        const marks = marksOf(block.id);
        const own = marks.signature ?? signature;
        // Of several calls made together, upstream signs the first.
        const signed = own ?? (isFirstCall && wantsSignatures(model) ? UNSIGNED_CALL : null);
        parts.push({
          functionCall: {
            ...(marks.upstreamId !== null && { id: marks.upstreamId }),
            name: block.name,
            args: block.input,
          },
          ...(signed !== null && { thoughtSignature: signed }),
        });
        signature = null;
        isFirstCall = false;
      }
    }
  }
  return parts;
}

function userParts(
  blocks: Placed<UserBlock>[],
  calls: Call[],
  terms: TurnTerms,
  allowance: JsonAllowance,
): Part[] {
  const results = new Map<string, Placed<ResultBlock>>();
  const rest: Part[] = [];
  for (const { block, place } of blocks) {
    if (block.type !== "tool_result") rest.push(...readableParts(block, place, terms.linked));
    else if (calls.some(({ id }) => id === block.tool_use_id) && !results.has(block.tool_use_id)) {
      results.set(block.tool_use_id, { block, place });
    } else rest.push(...lateResult(block, place, terms.linked));
  }
  const media: Part[] = [];
  const responses = calls.map(({ id, name }): Part => {
    const result = results.get(id);
    const { upstreamId } = marksOf(id);
    const response = result === undefined ? NO_RESULT : responseOf(result, media, terms.linked, allowance);
    return { functionResponse: { ...(upstreamId !== null && { id: upstreamId }), name, response } };
  });
  return [...responses, ...media, ...rest];
}

/** A result as upstream's object. Pictures and documents of it stand behind all results. */
function responseOf(
  { block, place }: Placed<ResultBlock>,
  media: Part[],
  linked: LinkedMedia,
  allowance: JsonAllowance,
): Record<string, unknown> {
  const { text, shown } = contentOf(block, place, linked);
  media.push(...shown);
  const output = text === "" && shown.length > 0 ? "What the tool gave is behind the results." : text;
  return block.is_error === true ? { error: output } : toolResponse(output, allowance);
}

function contentOf(
  { content }: ResultBlock,
  place: string,
  linked: LinkedMedia,
): { text: string; shown: Part[] } {
  const parts = (content ?? []).flatMap((inner, k) => readableParts(inner, `${place}.content[${k}]`, linked));
  return {
    text: parts.flatMap(({ text }) => text ?? []).join("\n"),
    shown: parts.filter(({ text }) => text === undefined),
  };
}

function lateResult(block: ResultBlock, place: string, linked: LinkedMedia): Part[] {
  const { text, shown } = contentOf(block, place, linked);
  return [{ text: `A tool's ${block.is_error === true ? "error" : "result"}: ${text}` }, ...shown];
}

function readableParts(block: ReadableBlock, place: string, linked: LinkedMedia): Part[] {
  switch (block.type) {
    case "text":
      return textParts([block]);
    case "image":
      return [{ inlineData: dataOf(block.source, `${place}.source`, linked, "image") }];
    case "search_result":
      return textParts([{ text: `${block.title} (${block.source})` }, ...block.content]);
    case "document": {
      const { source, title, context } = block;
      const head = [title, context].filter((text) => typeof text === "string" && text !== "").map((text) => ({
        text: text!,
      }));
      return [...textParts(head), ...documentParts(source, `${place}.source`, linked)];
    }
  }
}

type DocumentSource = Extract<ReadableBlock, { type: "document" }>["source"];

function documentParts(source: DocumentSource, place: string, linked: LinkedMedia): Part[] {
  switch (source.type) {
    case "text":
      return textParts([{ text: source.data }]);
    case "content":
      return source.content.flatMap((inner, k) => readableParts(inner, `${place}.content[${k}]`, linked));
    default:
      return [{ inlineData: dataOf(source, place, linked, "document") }];
  }
}

type DataSource = Extract<DocumentSource, { type: "base64" | "url" }>;

function dataOf(
  source: DataSource,
  place: string,
  linked: LinkedMedia,
  what: "image" | "document",
): InlineData {
  const found = source.type === "base64"
    // Some clients break long lines.
    ? { mimeType: source.media_type.toLowerCase(), data: source.data.replace(/\s/g, "") }
    : isLink(source.url)
    ? linked(source.url)
    : undefined;
  if (found === undefined) throw fault(`${place}.url`, "must be an http(s) link");
  const { mimeType = "" } = found;
  const fits = what === "image"
    ? mimeType.startsWith("image/")
    : mimeType === DOCUMENT_TYPE || mimeType.startsWith("text/");
  if (!fits) throw fault(place, `is no ${what === "image" ? "image" : "PDF"} but ${mimeType}`);
  return found;
}

function fault(field: string, problem: string): GatewayError {
  return invalidRequest([{ field, problem }]);
}
