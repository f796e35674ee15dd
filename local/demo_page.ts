/** A page of the local stack's own, for messages with a link: nobody needs the internet to see one become an article. */
export const DEMO_PAGE_PATH = "/emulator/page";

const paragraphs = [
  "The chamber orchestra plays under the old chestnut trees tonight, from seven o'clock until the lamps are lit. Admission is free, and blankets are lent at the gate, where a small kitchen sells soup and bread until the last piece has been played.",
  "On the programme are three serenades for strings, a suite that was written for this park a hundred years ago and has not been heard since, and, after the interval, dances from four countries that the audience chooses by a show of hands.",
  "Should it rain, everybody moves to the greenhouse, which seats two hundred. Anyone who comes by bicycle finds stands at the southern gate; the last tram leaves at a quarter past eleven.",
];

export function demoPage(): Response {
  const body = `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>An evening in the park</title><meta property="og:site_name" content="City events"></head>
<body>
<nav><a href="/">Home</a></nav>
<article><h1>An evening in the park</h1>${paragraphs.map((text) => `<p>${text}</p>`).join("")}</article>
<footer>City events</footer>
</body>
</html>
`;
  return new Response(body, {
    headers: { "content-type": "text/html; charset=utf-8", "cache-control": "max-age=600", etag: '"1"' },
  });
}
