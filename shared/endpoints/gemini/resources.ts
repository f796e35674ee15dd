import { GatewayError } from "../../contract/gateway_error.ts";
import { invalidRequest } from "../validated.ts";

export type Collection = "files" | "batches";

const HEX = /^[0-9a-f]{32}$/;
/** Google's own for files. */
const DEFAULT_PAGE = 10;
const MAX_PAGE = 100;

/** `files/` and the id's 32 digits: Google's clients find no dashes in a file's address. */
export function resourceName(collection: Collection, uuid: string): string {
  return `${collection}/${uuid.replaceAll("-", "")}`;
}

/**
 * @param name `files/<id>`, or the id alone
 * @throws GatewayError `not_found`: there is nothing of such a name
 */
export function uuidOf(collection: Collection, name: string): string {
  const hex = name.startsWith(`${collection}/`) ? name.slice(collection.length + 1) : name;
  if (!HEX.test(hex)) {
    throw new GatewayError("not_found", { message: `There is no ${collection}/${hex.slice(0, 100)}.` });
  }
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** The page that a list's query asks for. @throws GatewayError `invalid_request` */
export function pageOf(collection: Collection, url: string): { limit: number; after: string | null } {
  const query = new URL(url).searchParams;
  const size = query.get("pageSize") ?? query.get("page_size") ?? "";
  if (!/^\d{0,9}$/.test(size)) {
    throw invalidRequest([{ field: "pageSize", problem: "must be a whole number" }]);
  }
  const token = query.get("pageToken") ?? query.get("page_token") ?? "";
  if (token !== "" && !HEX.test(token)) {
    throw invalidRequest([{ field: "pageToken", problem: "must be the nextPageToken of a page before" }]);
  }
  return {
    limit: Math.min(Number(size) || DEFAULT_PAGE, MAX_PAGE),
    after: token === "" ? null : uuidOf(collection, token),
  };
}

/** Where the next page begins; nothing at the end. */
export function nextPage(items: readonly { id: string }[], hasMore: boolean): { nextPageToken?: string } {
  const last = items.at(-1);
  return hasMore && last !== undefined ? { nextPageToken: last.id.replaceAll("-", "") } : {};
}
