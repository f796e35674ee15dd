/** The Gemini door as existing clients meet it: theirs are the requests, ours the running stack. */
import { afterAll, beforeAll, beforeEach } from "vitest";
import { aiSdk } from "./gemini/ai_sdk.ts";
import { googleGenai } from "./gemini/google_genai.ts";
import { googleGenerativeAi } from "./gemini/google_generative_ai.ts";
import { closeHouse, type House, openHouse } from "./gemini/gemini_stack.ts";
import { rest } from "./gemini/rest.ts";

let opened: House;
const house = () => opened;

beforeAll(async () => {
  opened = await openHouse();
});
afterAll(() => closeHouse(opened));
beforeEach(() => opened.clear());

googleGenai(house);
googleGenerativeAi(house);
aiSdk(house);
rest(house);
