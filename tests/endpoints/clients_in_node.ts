/**
 * The same tests of JavaScript's clients, in Node: `node.test.ts` starts the stack in Deno and this in Node's Vitest, and says where the
 * stack is in EVE_TEST_GATEWAY.
 */
import { afterAll, beforeEach } from "vitest";
import { aiSdkAnthropic } from "./anthropic/ai_sdk_anthropic.ts";
import { anthropicClient } from "./anthropic/anthropic_client.ts";
import { aiSdk as aiSdkGoogle } from "./gemini/ai_sdk.ts";
import { cachedContents } from "./gemini/cached_contents.ts";
import { gatewayOf } from "./test_gateway.ts";
import { googleGenai } from "./gemini/google_genai.ts";
import { googleGenerativeAi } from "./gemini/google_generative_ai.ts";
import { langchain } from "./langchain.ts";
import { agents } from "./openai/agents.ts";
import { aiSdk } from "./openai/ai_sdk.ts";
import { aiSdkOpenai } from "./openai/ai_sdk_openai.ts";
import { openaiClient } from "./openai/openai_client.ts";
import { runningStack } from "./running_stack.ts";

const opened = gatewayOf(runningStack());
const gateway = () => opened;

afterAll(() => opened.sql.end({ timeout: 5 }));
beforeEach(() => opened.clear());

openaiClient(gateway);
aiSdk(gateway);
aiSdkOpenai(gateway);
agents(gateway);
langchain(gateway);
anthropicClient(gateway);
aiSdkAnthropic(gateway);
googleGenai(gateway);
googleGenerativeAi(gateway);
aiSdkGoogle(gateway);
cachedContents(gateway);
