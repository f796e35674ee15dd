/** The Gemini endpoint as existing clients meet it: theirs are the requests, ours the running stack. */
import { afterAll, beforeAll, beforeEach } from "vitest";
import { aiSdk } from "./gemini/ai_sdk.ts";
import { batches } from "./gemini/batches.ts";
import { cachedContents } from "./gemini/cached_contents.ts";
import { googleGenai } from "./gemini/google_genai.ts";
import { googleGenerativeAi } from "./gemini/google_generative_ai.ts";
import { closeTestGateway, type OpenedGateway, openTestGateway } from "./opened_gateway.ts";
import { rest } from "./gemini/rest.ts";

let opened: OpenedGateway;
const gateway = () => opened;

beforeAll(async () => {
  opened = await openTestGateway();
});
afterAll(() => closeTestGateway(opened));
beforeEach(() => opened.clear());

googleGenai(gateway);
googleGenerativeAi(gateway);
aiSdk(gateway);
rest(gateway);
batches(gateway);
cachedContents(gateway);
