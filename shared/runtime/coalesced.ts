/**
 * Sends items in lists, one list at a time: what comes while a list is on its way goes with the next one.
 * @param send rejects for the whole list; then each of its items is rejected
 * @param most items of a list
 */
export function coalesced<Item>(
  send: (items: Item[]) => Promise<void>,
  most: number,
): (item: Item) => Promise<void> {
  let last: Promise<unknown> = Promise.resolve();
  let open: { items: Item[]; sent: Promise<void> } | null = null;
  return (item) => {
    if (open !== null && open.items.length < most) {
      open.items.push(item);
      return open.sent;
    }
    const items = [item];
    const list = {
      items,
      sent: last.then(() => {
        if (open === list) open = null;
        return send(items);
      }),
    };
    open = list;
    last = list.sent.catch(() => {});
    return list.sent;
  };
}
