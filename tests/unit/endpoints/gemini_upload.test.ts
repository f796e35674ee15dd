import { describe, expect, test } from "vitest";
import { multipartRelated } from "../../../shared/endpoints/gemini/files/multipart_related.ts";
import { createUploadAddresses } from "../../../shared/endpoints/gemini/files/upload_address.ts";

const BEGUN = {
  caller: { kind: "service", consumerId: "c", tokenId: null, name: "a" },
  file: { id: "f", filename: "lines", mimeType: "jsonl", sizeBytes: 2 },
} as const;

describe("the address of an upload", () => {
  let now = Date.parse("2026-11-22T12:00:00Z");
  const addresses = (secret = "sb_secret_of_the_project") =>
    createUploadAddresses({ functionUrl: "https://p/functions/v1/llm-invoke", secret, now: () => now });

  test("says who sends what, for an hour, and only if it is ours", async () => {
    const url = await addresses().sign(BEGUN);
    expect(url).toMatch(/^https:\/\/p\/functions\/v1\/llm-invoke\/upload\/v1beta\/files\?/);
    expect(await addresses().verify(url)).toEqual(BEGUN);
    expect(await addresses().verify("https://p/upload/v1beta/files")).toBeNull();
    await expect(addresses("another").verify(url)).rejects.toMatchObject({ code: "credential_invalid" });
    await expect(addresses().verify(`${url}x`)).rejects.toMatchObject({ code: "credential_invalid" });
    await expect(addresses().verify("https://p/?upload_id=")).rejects.toMatchObject({
      code: "credential_invalid",
    });
    now += 3_600_001;
    await expect(addresses().verify(url)).rejects.toMatchObject({ code: "credential_invalid" });
  });
});

describe("a body of two parts", () => {
  const body = (text: string) => new TextEncoder().encode(text);
  const whole =
    '--b\r\nContent-Type: application/json\r\n\r\n{"file":{}}\r\n--b\r\nContent-Type: text/plain\r\n\r\n\r\n-bytes\r\n\r\n--b--';

  test("is taken apart, byte for byte", () => {
    for (const type of ["multipart/related; boundary=b", 'Multipart/Related; charset=x; boundary="b"']) {
      const { json, mimeType, bytes } = multipartRelated(type, body(whole));
      expect([json, mimeType, new TextDecoder().decode(bytes)]).toEqual([
        { file: {} },
        "text/plain",
        "\r\n-bytes\r\n",
      ]);
    }
    expect(multipartRelated("multipart/related; boundary=b", body(whole.replace("\r\n-bytes\r\n", ""))).bytes)
      .toHaveLength(0);
  });

  test.each([
    ["another type", "multipart/form-data; boundary=b", whole],
    ["no boundary", "multipart/related", whole],
    ["another boundary", "multipart/related; boundary=c", whole],
    ["no end", "multipart/related; boundary=b", whole.slice(0, -7)],
    ["one part", "multipart/related; boundary=b", `${whole.slice(0, whole.indexOf("\r\n--b"))}\r\n--b--`],
    ["no JSON", "multipart/related; boundary=b", whole.replace('{"file":{}}', "{")],
  ])("with %s is refused", (_, type, text) => {
    expect(() => multipartRelated(type, body(text))).toThrow(
      expect.objectContaining({ code: "invalid_request" }),
    );
  });
});
