/** What the admin function answers: its own types, so that what it does not answer cannot be read here. */
export type * from "../../../shared/admin/answers.ts";
export type { Job } from "../../../shared/endpoints/native/job_answer.ts";
