/** What files are by their names' ends. The gateway looks at what is in them, too, so this tells those that do not say it themselves. */
const BY_EXTENSION: Readonly<Record<string, string>> = {
  css: "text/css",
  csv: "text/csv",
  doc: "application/msword",
  docx: "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
  gif: "image/gif",
  htm: "text/html",
  html: "text/html",
  jpeg: "image/jpeg",
  jpg: "image/jpeg",
  js: "text/javascript",
  json: "application/json",
  jsonl: "application/x-ndjson",
  m4a: "audio/mp4",
  md: "text/markdown",
  mov: "video/quicktime",
  mp3: "audio/mpeg",
  mp4: "video/mp4",
  ogg: "audio/ogg",
  pdf: "application/pdf",
  png: "image/png",
  svg: "image/svg+xml",
  tsv: "text/tab-separated-values",
  txt: "text/plain",
  wav: "audio/wav",
  webm: "video/webm",
  webp: "image/webp",
  xlsx: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
  xml: "application/xml",
  yaml: "application/yaml",
  yml: "application/yaml",
  zip: "application/zip",
};

/** The type of a file by its name; `application/octet-stream`, which leaves it to its content, for any other. */
export function mimeTypeOfName(name: string): string {
  const extension = /\.([a-z0-9]+)$/.exec(name.toLowerCase())?.[1];
  return extension === undefined || !Object.hasOwn(BY_EXTENSION, extension)
    ? "application/octet-stream"
    : BY_EXTENSION[extension]!;
}

/** Types that the gateway stores packed: they are sent through its function, as far as that takes them in one body. */
export function isPackedType(mimeType: string): boolean {
  return /^(text\/html|application\/xhtml\+xml|application\/(.+\+)?json)\s*(;|$)/i.test(mimeType.trim());
}
