/** The script of a page that calls the gateway by the packages that pages have; see browser_clients.test.ts. */
import { GoogleGenAI } from "@google/genai";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const packages = { GoogleGenAI, OpenAI, z, zodResponseFormat };
export type Packages = typeof packages;

Object.assign(globalThis, packages);
