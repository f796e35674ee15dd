/**
 * What the functions are called on the project. In a repository that has functions of these names the installer puts a prefix
 * before them all, by changing this one line.
 */
export const FUNCTION_PREFIX = "";

export type FunctionName =
  | "llm-invoke"
  | "issue-kaggle-token"
  | "maintenance"
  | "admin"
  | "api"
  | "worker"
  | "telegram";

/** The name in a function's address: `/functions/v1/<name>`. */
export function functionName(name: FunctionName): string {
  return FUNCTION_PREFIX + name;
}

/** Where a function of the project is. @param projectUrl as in `SUPABASE_URL` */
export function functionUrl(projectUrl: string, name: FunctionName): string {
  return `${projectUrl.replace(/\/+$/, "")}/functions/v1/${functionName(name)}`;
}
