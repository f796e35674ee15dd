/** Which request is looked at: one that was admitted by its number, one that was refused by its caller's id, which several may have used. */
export type Shown = { request_no: string } | { request_id: string; consumer: string | null };

/** As the path of the page has it for one that was refused; its id may hold anything, so that is among the parameters. */
export const REFUSED = "refused";

/** @param filter of the list behind it, which the address keeps */
export function requestAddress(shown: Shown | undefined, filter: Record<string, string> = {}): string {
  const given = new URLSearchParams(Object.entries(filter).filter(([, value]) => value !== ""));
  if (shown !== undefined && "request_id" in shown) {
    given.set("refused", shown.request_id);
    if (shown.consumer !== null) given.set("by", shown.consumer);
  }
  const path = shown === undefined ? "" : `/${"request_no" in shown ? shown.request_no : REFUSED}`;
  // With a question mark in any case: without one the router leaves the parameters that were there.
  return `/requests${path}?${given}`;
}

/** What the page's address shows. */
export function shownBy(path: string | undefined, search: string): Shown | undefined {
  if (path !== REFUSED) return path === undefined ? undefined : { request_no: path };
  const given = new URLSearchParams(search);
  const request_id = given.get("refused");
  return request_id === null ? undefined : { request_id, consumer: given.get("by") };
}
