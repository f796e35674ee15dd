/** The OpenAI and the Anthropic endpoint as existing clients meet them: theirs are the requests, ours the running stack. */
import { afterAll, beforeAll, beforeEach } from "vitest";
import { closeTestGateway, type OpenedGateway, openTestGateway } from "./opened_gateway.ts";
import { aiSdkAnthropic } from "./anthropic/ai_sdk_anthropic.ts";
import { anthropicClient } from "./anthropic/anthropic_client.ts";
import { agents } from "./openai/agents.ts";
import { aiSdk } from "./openai/ai_sdk.ts";
import { aiSdkOpenai } from "./openai/ai_sdk_openai.ts";
import { aliases } from "./openai/aliases.ts";
import { langchain } from "./langchain.ts";
import { openaiClient } from "./openai/openai_client.ts";
import { scanner } from "./openai/scanner.ts";

let opened: OpenedGateway;
const gateway = () => opened;

beforeAll(async () => {
  opened = await openTestGateway();
});
afterAll(() => closeTestGateway(opened));
beforeEach(() => opened.clear());

openaiClient(gateway);
aiSdk(gateway);
aiSdkOpenai(gateway);
agents(gateway);
langchain(gateway);
scanner(gateway);
anthropicClient(gateway);
aiSdkAnthropic(gateway);
aliases(gateway);
