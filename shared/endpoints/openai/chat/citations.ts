import { isObject } from "../../../contract/is_object.ts";

/** A page on which some words of an answer rest; places in UTF-16 units of the answer's text. */
export interface Citation {
  url: string;
  title: string;
  start_index: number;
  end_index: number;
}

/** The pages of Google's search on which an answer rests. @param grounding a candidate's `groundingMetadata` */
export function citationsOf(grounding: unknown, text: string): Citation[] {
  if (!isObject(grounding)) return [];
  const pages = listIn(grounding.groundingChunks).map(({ web }) => isObject(web) ? web : {});
  return listIn(grounding.groundingSupports).flatMap(({ segment, groundingChunkIndices: indices }) => {
    const words = isObject(segment) && typeof segment.text === "string" ? segment.text : "";
    // Google counts bytes of UTF-8; the words themselves say where they stand.
    const at = words === "" ? -1 : text.indexOf(words);
    return (Array.isArray(indices) ? indices : []).flatMap((index): Citation[] => {
      const { uri, title } = pages[Number(index)] ?? {};
      if (typeof uri !== "string") return [];
      return [{
        url: uri,
        title: typeof title === "string" ? title : uri,
        start_index: Math.max(0, at),
        end_index: at < 0 ? text.length : at + words.length,
      }];
    });
  });
}

/** What was searched for. */
export function searchesIn(grounding: unknown): string[] {
  const queries = isObject(grounding) ? grounding.webSearchQueries : undefined;
  return Array.isArray(queries) ? queries.filter((query) => typeof query === "string") : [];
}

function listIn(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}
