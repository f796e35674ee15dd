import { describe, expect, test } from "vitest";
import { systemClock } from "../../../shared/runtime/clock.ts";
import { isPublicAddress, isPublicHost } from "../../../shared/http/outgoing/public_address.ts";
import { fetchPublic, type PublicFetchOptions } from "../../../shared/http/outgoing/public_fetch.ts";

const PNG = new Uint8Array([0x89, 0x50, 0x4e, 0x47]);

/** A web of a few pages: what each URL answers. */
function web(pages: Record<string, () => Response | Promise<Response>>) {
  const visited: string[] = [];
  const visit = (input: URL | RequestInfo) => {
    visited.push(String(input));
    const page = pages[String(input)];
    return page === undefined ? Promise.reject(new TypeError("no such host")) : Promise.resolve(page());
  };
  return { visited, fetch: visit as typeof fetch };
}

const image = (type = "image/png") => () => new Response(PNG, { headers: { "content-type": type } });
const redirect = (location: string) => () => new Response(null, { status: 302, headers: { location } });

function options(fetch: typeof globalThis.fetch, more: Partial<PublicFetchOptions> = {}): PublicFetchOptions {
  return {
    fetch,
    clock: systemClock,
    timeoutMs: 1_000,
    signal: new AbortController().signal,
    mayTake: () => true,
    accepts: (type) => type.startsWith("image/"),
    ...more,
  };
}

test("what a public link leads to arrives with its type", async () => {
  const { fetch } = web({ "https://img.example.com/a.png": image("image/png; charset=binary") });
  expect(await fetchPublic("https://img.example.com/a.png", options(fetch))).toEqual({
    mimeType: "image/png",
    bytes: PNG,
  });
});

test("a redirect is followed, relative ones too", async () => {
  const { fetch, visited } = web({
    "https://example.com/a": redirect("/b"),
    "https://example.com/b": redirect("https://cdn.example.net/c.png"),
    "https://cdn.example.net/c.png": image(),
  });
  await fetchPublic("https://example.com/a", options(fetch));
  expect(visited).toHaveLength(3);
});

describe("never asked for", () => {
  test.each([
    "file:///etc/passwd",
    "ftp://example.com/a.png",
    "https://user:word@example.com/a.png",
    "https://example.com:8443/a.png",
    "http://localhost/a.png",
    "http://LOCALHOST./a.png",
    "http://intranet/a.png",
    "http://db.internal/a.png",
    "http://printer.local/a.png",
    "http://127.0.0.1/a.png",
    "http://0x7f.1/a.png",
    "http://2130706433/a.png",
    "http://169.254.169.254/latest/meta-data",
    "http://[::1]/a.png",
    "http://[::ffff:10.0.0.1]/a.png",
    "http://[fd00::1]/a.png",
    "not a url",
    `https://example.com/${"a".repeat(5_000)}`,
  ])("%s", async (url) => {
    const { fetch, visited } = web({});
    await expect(fetchPublic(url, options(fetch))).rejects.toThrow(/must|not a valid|longer/);
    expect(visited).toEqual([]);
  });

  test("a private place behind a redirect", async () => {
    const { fetch, visited } = web({ "https://example.com/a": redirect("http://169.254.169.254/") });
    await expect(fetchPublic("https://example.com/a", options(fetch))).rejects.toThrow("public host");
    expect(visited).toEqual(["https://example.com/a"]);
  });

  test("a public name with a private address, even beside a public one", async () => {
    const { fetch, visited } = web({});
    const resolve = () => Promise.resolve(["93.184.216.34", "10.0.0.5"]);
    await expect(fetchPublic("https://rebound.example.com/a", options(fetch, { resolve }))).rejects.toThrow(
      "public host",
    );
    expect(visited).toEqual([]);
  });
});

describe("given up on", () => {
  const pages = {
    "https://example.com/loop": redirect("https://example.com/loop"),
    "https://example.com/text": () => new Response("hello", { headers: { "content-type": "text/html" } }),
    "https://example.com/gone": () => new Response("", { status: 404 }),
    "https://example.com/big": image(),
    "https://example.com/slow": () => new Promise<Response>(() => {}),
  };

  test.each([
    ["loop", "redirects more than 3 times", {}],
    ["text", "of the type text/html", {}],
    ["gone", "status 404", {}],
    ["nowhere", "could not be fetched", {}],
    ["big", "too large", { mayTake: (bytes: number) => bytes < 4 }],
    ["slow", "within 20 ms", { timeoutMs: 20 }],
    ["big", "does not exist", { resolve: () => Promise.reject(new Error("NXDOMAIN")) }],
  ])("%s: %s", async (page, why, more) => {
    await expect(fetchPublic(`https://example.com/${page}`, options(web(pages).fetch, more))).rejects.toThrow(
      why,
    );
  });

  test("when the client leaves", async () => {
    const client = new AbortController();
    const fetching = fetchPublic(
      "https://example.com/slow",
      options(web(pages).fetch, { signal: client.signal }),
    );
    client.abort(new Error("left"));
    await expect(fetching).rejects.toThrow("left");
  });
});

describe("addresses", () => {
  test.each(["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001::"])(
    "%s is public",
    (address) => expect(isPublicAddress(address)).toBe(true),
  );

  test.each([
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.9.9.9",
    "169.254.169.254",
    "172.31.255.255",
    "192.168.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:8.8.8.8",
    "64:ff9b::a00:1",
    "2002:7f00:1::",
    "2001:db8::1",
    "192.175.48.1",
    "08.8.8.8",
    "::8.8.8.8",
    "4000::1",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "example.com",
    "1.2.3",
    "1:2:3",
    "1::2::3",
    "",
  ])("%s is not", (address) => expect(isPublicAddress(address)).toBe(false));

  test("a host may be a name or an address in brackets", () => {
    expect(["example.com", "example.com.", "8.8.8.8", "[2606:4700::1111]"].map(isPublicHost)).toEqual(
      Array(4).fill(true),
    );
    expect(["example", "x.localhost", "[::1]", "10.0.0.1"].map(isPublicHost)).toEqual(Array(4).fill(false));
  });
});
