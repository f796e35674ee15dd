import { describe, expect, test } from "vitest";
import { readStorageSettings } from "../../../shared/media/settings.ts";

const read = (variables: Record<string, string>) => readStorageSettings((name) => variables[name]);
const S3 = { S3_BUCKET_NAME: "files", S3_ACCESS_KEY_ID: "tenant:key", S3_SECRET_ACCESS_KEY: "secret/+=" };

const detailOf = (variables: Record<string, string>): string => {
  try {
    read(variables);
  } catch (error) {
    expect(error).toMatchObject({ code: "gateway_misconfigured" });
    return (error as { detail: string }).detail;
  }
  throw new Error("they were taken");
};

describe("where files are kept", () => {
  test("nothing set: no S3, and files of 100 MB", () => {
    expect(read({})).toEqual({
      s3: null,
      maxFileBytes: 100_000_000,
      partBytes: 100_000_000,
      defaultTenantId: null,
    });
    expect(read({ S3_BUCKET_NAME: "", S3_ACCESS_KEY_ID: " ", S3_REGION: "ru-central-1" }).s3).toBeNull();
  });

  test("a bucket and its keys: Cloud.ru, whose key ids have a colon", () => {
    expect(read(S3).s3).toEqual({
      endpoint: "https://s3.cloud.ru",
      region: "ru-central-1",
      bucket: "files",
      accessKeyId: "tenant:key",
      secretAccessKey: "secret/+=",
    });
  });

  test("the other names are understood", () => {
    const others = { S3_BUCKET: "files", S3_ACCESS_KEY: "tenant:key", S3_SECRET_KEY: "secret/+=" };
    expect(read(others)).toEqual(read(S3));
    expect(read({ ...others, ...S3 })).toEqual(read(S3));
  });

  test("an address may have a path, and loses its slash", () => {
    const S3_ENDPOINT_URL = "https://ref.supabase.co/storage/v1/s3/";
    expect(read({ ...S3, S3_ENDPOINT_URL }).s3!.endpoint).toBe("https://ref.supabase.co/storage/v1/s3");
  });

  test("tenant and size", () => {
    const settings = read({
      S3_DEFAULT_TENANT_ID: "festivals",
      MAX_FILE_SIZE_MB: "2.5",
      S3_PART_SIZE_MB: "5.25",
    });
    expect(settings).toMatchObject({
      maxFileBytes: 2_500_000,
      partBytes: 5_250_000,
      defaultTenantId: "festivals",
    });
  });

  test.each<[string, Record<string, string>, string]>([
    ["no secret", { ...S3, S3_SECRET_ACCESS_KEY: "" }, "S3_SECRET_ACCESS_KEY: is needed"],
    ["an address alone", { S3_ENDPOINT_URL: "https://a.example" }, "S3_BUCKET_NAME: is needed"],
    ["two buckets", { ...S3, S3_BUCKET: "others" }, "S3_BUCKET_NAME and S3_BUCKET: are both set and differ"],
    ["no address", { ...S3, S3_ENDPOINT_URL: "s3.cloud.ru" }, "S3_ENDPOINT_URL"],
    ["another protocol", { ...S3, S3_ENDPOINT_URL: "ftp://s3.cloud.ru" }, "S3_ENDPOINT_URL"],
    ["a password in the address", { ...S3, S3_ENDPOINT_URL: "https://a:b@s3.cloud.ru" }, "S3_ENDPOINT_URL"],
    ["a query in the address", { ...S3, S3_ENDPOINT_URL: "https://s3.cloud.ru?a=b" }, "S3_ENDPOINT_URL"],
    ["a bucket that is none", { ...S3, S3_BUCKET_NAME: "Files/x" }, "S3_BUCKET_NAME: must be"],
    ["a key with a slash", { ...S3, S3_ACCESS_KEY_ID: "a/b" }, "S3_ACCESS_KEY_ID"],
    ["a tenant that is no part of a key", { S3_DEFAULT_TENANT_ID: "a/b" }, "S3_DEFAULT_TENANT_ID"],
    ["no number", { MAX_FILE_SIZE_MB: "ten" }, "MAX_FILE_SIZE_MB"],
    ["no size", { MAX_FILE_SIZE_MB: "0" }, "MAX_FILE_SIZE_MB"],
    [
      "a part that S3 takes for too small",
      { S3_PART_SIZE_MB: "5" },
      "S3_PART_SIZE_MB: must be at least 5.25",
    ],
    ["a part larger than one PUT takes", { S3_PART_SIZE_MB: "5001" }, "S3_PART_SIZE_MB"],
    ["more than one PUT takes", { MAX_FILE_SIZE_MB: "5001" }, "MAX_FILE_SIZE_MB"],
  ])("%s is refused by name", (_, variables, said) => {
    expect(detailOf(variables)).toContain(said);
  });

  test("what is wrong is said without the value", () => {
    const detail = detailOf({
      ...S3,
      S3_ACCESS_KEY_ID: "key with spaces",
      S3_SECRET_ACCESS_KEY: "a secret with spaces",
    });
    expect(detail).toContain("S3_ACCESS_KEY_ID");
    expect(detail).toContain("S3_SECRET_ACCESS_KEY");
    expect(detail).not.toMatch(/with spaces/);
  });
});
