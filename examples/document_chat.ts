/**
 * A question about a document, in fourteen steps: from what a person types to the conversation that is shown to them again.
 *
 *     EVE_GATEWAY_URL=https://<ref>.supabase.co EVE_GATEWAY_SECRET=eve_service_... \
 *       npx deno run -A examples/document_chat.ts "Where is the load-bearing wall?"
 *
 * The secret is a service's: npm run eve -- consumers add assistant --kind service --scopes llm,media,chats
 */
import { createHash, randomUUID } from "node:crypto";
import process from "node:process";

const MODEL = "gemma-4-31b-it";
/** Between two looks at an answer that is being stored. */
const POLL_MS = 100;
/** While the database or the network is away a step is sent again: for some two minutes. */
const MOST_TRIES = 20;
const LONGEST_PAUSE_MS = 8_000;

/** The document, as a reader of PDFs gives it: pieces of text with their places, in parts of a page's width and height. */
const BLOCKS = [
  {
    block_id: "p3-1",
    page_number: 3,
    coords_norm: [0.1, 0.2, 0.6, 0.25],
    block_text: "The doors are of oak.",
  },
  {
    block_id: "p4-2",
    page_number: 4,
    coords_norm: [0.2, 0.5, 0.8, 0.55],
    block_text: "The load-bearing wall stands two metres from axis B.",
  },
  { block_id: "p7-5", page_number: 7, coords_norm: [0.1, 0.7, 0.4, 0.75], block_text: "The roof is flat." },
];
const PAGE = { width: 120, height: 80 };

function setting(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set.`);
  return value;
}

/**
 * A call of the function `api`, sent again while it cannot be served. Each is the same however often it is sent: what is made has an id of
 * ours. Throws what the gateway said if it refused.
 */
async function api(method: string, path: string, body?: unknown): Promise<Response> {
  const isFile = body instanceof Uint8Array;
  for (let tries = 1;; tries++) {
    const problem = await fetch(`${setting("EVE_GATEWAY_URL")}/functions/v1/api/v1/${path}`, {
      method,
      headers: {
        authorization: `Bearer ${setting("EVE_GATEWAY_SECRET")}`,
        "content-type": isFile ? "image/bmp" : "application/json",
      },
      ...(body !== undefined && { body: isFile ? body as BodyInit : JSON.stringify(body) }),
    }).catch(String);
    if (typeof problem !== "string" && problem.ok) return problem;
    const said = typeof problem === "string" ? problem : await problem.text();
    if (tries === MOST_TRIES || (typeof problem !== "string" && problem.status < 500)) throw new Error(said);
    console.error(`Trying again: ${said}`);
    const pauseMs = Math.min(200 * 2 ** tries, LONGEST_PAUSE_MS) * (0.5 + Math.random() / 2);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

// deno-lint-ignore no-explicit-any -- rows, whose columns docs/chats.md names.
const json = async (method: string, path: string, body?: unknown): Promise<any> =>
  await (await api(method, path, body)).json();

/** The blocks that share most words with the question. */
function found(question: string) {
  const words = new Set(question.toLowerCase().match(/[\p{L}\d-]+/gu));
  const score = (text: string) =>
    [...text.toLowerCase().matchAll(/[\p{L}\d-]+/gu)].filter(([word]) => words.has(word)).length;
  return BLOCKS.map((block) => ({ block, score: score(block.block_text) })).filter(({ score }) => score > 1)
    .sort((a, b) => b.score - a.score).map(({ block }) => block);
}

/** A picture of the page, with the block on it dark: a bitmap of 24 bits a pixel. */
function viewport([left, top, right, bottom]: number[]): Uint8Array<ArrayBuffer> {
  const { width, height } = PAGE;
  const file = new Uint8Array(54 + width * height * 3).fill(255);
  const head = new DataView(file.buffer);
  file.fill(0, 0, 54);
  file.set([0x42, 0x4d]);
  for (
    const [at, value] of [[2, file.length], [10, 54], [14, 40], [18, width], [22, height], [
      34,
      width * height * 3,
    ]]
  ) {
    head.setUint32(at!, value!, true);
  }
  head.setUint16(26, 1, true);
  head.setUint16(28, 24, true);
  // Rows go from the bottom up.
  for (let y = Math.floor((1 - bottom!) * height); y < (1 - top!) * height; y++) {
    file.fill(
      80,
      54 + (y * width + Math.floor(left! * width)) * 3,
      54 + (y * width + Math.floor(right! * width)) * 3,
    );
  }
  return file;
}

/** The pieces of an answer, as they come. */
async function* pieces(response: Response): AsyncGenerator<string> {
  let text = "";
  for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
    text += part;
    const events = text.split("\n\n");
    text = events.pop() ?? "";
    for (const event of events) {
      const [, name, data] = /^event: (\w+)\ndata: (.*)$/s.exec(event) ?? [];
      if (name === "delta") yield JSON.parse(data!).text;
      if (name === "error") throw new Error(data);
    }
  }
}

try {
  // 1. Somebody types a question.
  const question = process.argv.slice(2).join(" ") || "Where is the load-bearing wall?";
  const clientId = randomUUID();
  // 2. The conversation about the document: the last one of this user, or a new one.
  const { chats } = await json("GET", "chats?user_id=demo&limit=1");
  const chat = chats[0] ??
    await json("POST", "chats", {
      id: randomUUID(),
      title: "Plans",
      user_id: "demo",
      metadata: { file: "plans.pdf" },
    });
  // 3. The question is stored at once, under a name of our own: sent again, it is there once.
  const asked = await json("POST", `chats/${chat.id}/messages`, { content: question, client_id: clientId });
  // 4. The document is searched.
  const blocks = found(question);
  // 5. What was found is stored, with its places on the pages.
  if (blocks.length > 0) {
    const results = blocks.map((block) => ({
      id: randomUUID(),
      ...block,
      message_id: asked.id,
      coords_px: block.coords_norm.map((share, at) =>
        Math.round(share * (at % 2 === 0 ? PAGE.width : PAGE.height))
      ),
    }));
    await json("POST", `chats/${chat.id}/search-results`, { results });
  }
  for (const block of blocks.slice(0, 1)) {
    // 6. The place is drawn.
    const picture = viewport(block.coords_norm);
    const hash = createHash("sha256").update(picture).digest("hex");
    // 7. The picture is stored: once, within the quota. (`GET media/{hash}` would say whether it is there.)
    await json("POST", `media?key=chats/${chat.id}/viewports/${block.block_id}.bmp`, picture);
    // 8. It belongs to the question.
    await json("POST", `messages/${asked.id}/images`, {
      id: randomUUID(),
      sha256: hash,
      image_name: `${block.block_id}.bmp`,
      image_type: "viewport",
      description: `page ${block.page_number}`,
      ...PAGE,
    });
  }
  // 9. What the model is told: the question, and what was found for it. What was said before goes along by itself.
  const context = blocks.map(({ page_number, block_text }) => `Page ${page_number}: ${block_text}`).join(
    "\n",
  );
  const call = {
    model: MODEL,
    client_id: clientId,
    system: "You answer questions about a building from the quoted pages alone, and name the page.",
    prompt: `${context}\n\n${question}`,
    stream: true,
  };
  // 10. The model is asked, within the limits: it waits for its slot.
  const answer = await api("POST", `chats/${chat.id}/answer`, call);
  // 11. The answer is shown as it comes.
  for await (const piece of pieces(answer)) process.stdout.write(piece);
  process.stdout.write("\n\n");
  // 12. It is stored behind its question, with what it cost; also if we had left in the middle.
  let history = await json("GET", `chats/${chat.id}/messages?path=current`);
  while (history.messages.at(-1).state === "pending") {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    history = await json("GET", `chats/${chat.id}/messages?path=current`);
  }
  // 13. The conversation is read again: messages, pictures, places.
  const { results } = await json("GET", `chats/${chat.id}/search-results?message_id=${asked.id}`);
  const { images } = await json("GET", `messages/${asked.id}/images`);
  // 14. And shown.
  for (const { role, content, usage } of history.messages) {
    console.log(`${role}: ${content.trim()}${usage ? ` (${usage.total_tokens} tokens)` : ""}`);
  }
  for (const { page_number, block_text, coords_px } of results) {
    console.log(`found on page ${page_number} at ${coords_px.join(", ")}: ${block_text}`);
  }
  for (const { image_name, s3_url } of images) console.log(`picture ${image_name}: ${s3_url}`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
