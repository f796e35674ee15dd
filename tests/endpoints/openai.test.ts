/** The OpenAI door as existing clients meet it: theirs are the requests, ours the running stack. */
import { afterAll, beforeAll, beforeEach } from "vitest";
import { closeHouse, type House, openHouse } from "./gemini/gemini_stack.ts";
import { aiSdk } from "./openai/ai_sdk.ts";
import { openaiClient } from "./openai/openai_client.ts";
import { scanner } from "./openai/scanner.ts";

let opened: House;
const house = () => opened;

beforeAll(async () => {
  opened = await openHouse();
});
afterAll(() => closeHouse(opened));
beforeEach(() => opened.clear());

openaiClient(house);
aiSdk(house);
scanner(house);
