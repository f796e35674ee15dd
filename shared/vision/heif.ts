/**
 * HEIC and AVIF are boxes in boxes (ISO/IEC 14496-12), their pictures items of a `meta` box (ISO/IEC 23008-12). Read here: which of both it
 * is, how large its primary item is shown, and where its metadata lies. No pixel is decoded.
 */
export interface HeifFacts {
  mimeType: "image/heic" | "image/heif" | "image/avif";
  /** Pixels, as shown: turned as its own properties say, which every decoder applies. */
  width: number;
  height: number;
  /** Where in the file its EXIF and XMP lie. */
  metadata: { from: number; length: number }[];
}

interface Box {
  name: string;
  from: number;
  end: number;
}

/** So many boxes, items and extents are read: a picture of a telephone has some hundred. */
const MOST = 5_000;

/** Null: it is no HEIF, or does not tell its size. @throws RangeError where it is cut off */
export function heifFacts(view: DataView): HeifFacts | null {
  const first = boxes(view, 0, view.byteLength).next().value;
  if (first?.name !== "ftyp") return null;
  const mimeType = typeOf(view, first);
  if (mimeType === null) return null;
  const meta = named(view, 0, view.byteLength, "meta");
  if (meta === null) return null;
  const inside = { from: meta.from + 4, end: meta.end };
  const within = (name: string) => named(view, inside.from, inside.end, name);
  const properties = within("iprp");
  if (properties === null) return null;
  const container = named(view, properties.from, properties.end, "ipco");
  const association = named(view, properties.from, properties.end, "ipma");
  if (container === null || association === null) return null;
  const all = [...boxes(view, container.from, container.end)];
  const primaryBox = within("pitm");
  const primary = primaryBox === null
    ? null
    : view.getUint8(primaryBox.from) === 0
    ? view.getUint16(primaryBox.from + 4)
    : view.getUint32(primaryBox.from + 4);
  let size: { width: number; height: number } | null = null;
  for (const index of propertiesOf(view, association, primary)) {
    const property = all[index - 1];
    if (property?.name === "ispe") {
      size = { width: view.getUint32(property.from + 4), height: view.getUint32(property.from + 8) };
    } else if (property?.name === "irot" && size !== null && (view.getUint8(property.from) & 1) === 1) {
      size = { width: size.height, height: size.width };
    }
  }
  if (size === null) return null;
  const [items, places, data] = [within("iinf"), within("iloc"), within("idat")];
  const metadata = items === null || places === null
    ? []
    : extentsOf(view, places, metadataItems(view, items), data?.from ?? null);
  return { mimeType, ...size, metadata };
}

function* boxes(view: DataView, from: number, end: number): Generator<Box> {
  for (let n = 0, at = from; n < MOST && at + 8 <= end; n++) {
    let size = view.getUint32(at);
    const name = fourCharacters(view, at + 4);
    let head = 8;
    if (size === 1) {
      size = Number(view.getBigUint64(at + 8));
      head = 16;
    } else if (size === 0) size = end - at;
    if (size < head) return;
    yield { name, from: at + head, end: Math.min(at + size, end) };
    at += size;
  }
}

function named(view: DataView, from: number, end: number, name: string): Box | null {
  for (const box of boxes(view, from, end)) if (box.name === name) return box;
  return null;
}

function fourCharacters(view: DataView, at: number): string {
  return String.fromCharCode(
    view.getUint8(at),
    view.getUint8(at + 1),
    view.getUint8(at + 2),
    view.getUint8(at + 3),
  );
}

function typeOf(view: DataView, { from, end }: Box): HeifFacts["mimeType"] | null {
  const brands = [fourCharacters(view, from)];
  for (let at = from + 8; at + 4 <= end && brands.length < 50; at += 4) brands.push(fourCharacters(view, at));
  if (brands.some((brand) => brand === "avif" || brand === "avis")) return "image/avif";
  if (brands.some((brand) => /^he[iv][cxms]$/.test(brand))) return "image/heic";
  return brands.some((brand) => brand === "mif1" || brand === "msf1") ? "image/heif" : null;
}

/** The properties of an item, in the order in which they are applied, counted from 1. @param item null: the first one */
function propertiesOf(view: DataView, { from }: Box, item: number | null): number[] {
  const version = view.getUint8(from);
  const wide = (view.getUint8(from + 3) & 1) === 1;
  let at = from + 8;
  for (let n = Math.min(view.getUint32(from + 4), MOST); n > 0; n--) {
    const id = version < 1 ? view.getUint16(at) : view.getUint32(at);
    at += version < 1 ? 2 : 4;
    const count = view.getUint8(at++);
    const indexes = Array.from(
      { length: count },
      (_, k) => wide ? view.getUint16(at + 2 * k) & 0x7fff : view.getUint8(at + k) & 0x7f,
    );
    if (item === null || id === item) return indexes;
    at += wide ? 2 * count : count;
  }
  return [];
}

/** Items that are no pictures: EXIF, and XMP, which is of a MIME type. */
function metadataItems(view: DataView, { from, end }: Box): Set<number> {
  const found = new Set<number>();
  const entries = from + (view.getUint8(from) === 0 ? 6 : 8);
  for (const entry of boxes(view, entries, end)) {
    const version = view.getUint8(entry.from);
    if (entry.name !== "infe" || version < 2) continue;
    const id = version === 2 ? view.getUint16(entry.from + 4) : view.getUint32(entry.from + 4);
    const type = fourCharacters(view, entry.from + (version === 2 ? 8 : 10));
    if (type === "Exif" || type === "mime" || type === "uri ") found.add(id);
  }
  return found;
}

function extentsOf(
  view: DataView,
  { from }: Box,
  items: Set<number>,
  data: number | null,
): { from: number; length: number }[] {
  const version = view.getUint8(from);
  const sizes = view.getUint16(from + 4);
  const [offsetSize, lengthSize, baseSize] = [sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15];
  const indexSize = version === 0 ? 0 : sizes & 15;
  let at = from + 6;
  const number = (size: number) => {
    const value = size === 0
      ? 0
      : size === 2
      ? view.getUint16(at)
      : size === 4
      ? view.getUint32(at)
      : Number(view.getBigUint64(at));
    at += size;
    return value;
  };
  const idSize = version < 2 ? 2 : 4;
  const found: { from: number; length: number }[] = [];
  for (let n = Math.min(number(idSize), MOST); n > 0; n--) {
    const id = number(idSize);
    const inside = version === 0 ? 0 : number(2) & 15;
    number(2);
    const base = number(baseSize) + (inside === 1 ? data ?? 0 : 0);
    for (let extents = number(2); extents > 0; extents--) {
      number(indexSize);
      const begin = base + number(offsetSize);
      const length = number(lengthSize);
      if (items.has(id)) found.push({ from: begin, length });
      if (found.length > MOST) throw new RangeError("too many extents");
    }
  }
  return found;
}
