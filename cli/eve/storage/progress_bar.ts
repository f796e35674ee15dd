import { bar } from "../chart.ts";
import { bytes, shortened } from "../table.ts";

const BAR_WIDTH = 20;
/** What is left of a line beside the bar and the figures. */
const TITLE_WIDTH = 30;

/**
 * A bar for a work of so many bytes: call it with how many are done. It is written again only when it would look otherwise, since a
 * terminal is slower than a file.
 */
export function progressBar(
  progress: (text: string) => void,
  title: string,
  totalBytes: number,
): (doneBytes: number) => void {
  let shown = "";
  return (doneBytes) => {
    const share = totalBytes <= 0 ? 1 : Math.min(doneBytes / totalBytes, 1);
    // Never full before the end.
    const percent = `${Math.floor(share * 100)}%`.padStart(4);
    if (percent === shown) return;
    shown = percent;
    const drawn = bar(share, 1, BAR_WIDTH).padEnd(BAR_WIDTH);
    progress(`${shortened(title, TITLE_WIDTH)} ${drawn} ${percent} of ${bytes(totalBytes)}`);
  };
}
