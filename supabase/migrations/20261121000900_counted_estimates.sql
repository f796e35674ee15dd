-- Tokens that upstream has counted, and estimates that it has not.
--
-- An estimate that turns out too low lets more into Google's minute than fits, and one that is too high leaves quota unused.
-- Google counts a prompt free of charge (countTokens has a quota of its own), so where tokens are what is scarce and the caller
-- is not in a hurry, it is asked to have its prompt counted before it books. This is what a model says about it; the functions
-- that book by it are in the next migration.

set local lock_timeout = '10s';

alter table public.google_ai_model_limits
  add column if not exists estimate_ceiling double precision not null default 1.4286;
alter table public.google_ai_model_limits drop constraint if exists google_ai_model_limits_estimate_ceiling_range;
alter table public.google_ai_model_limits
  add constraint google_ai_model_limits_estimate_ceiling_range check (estimate_ceiling between 1 and 10) not valid;
alter table public.google_ai_model_limits validate constraint google_ai_model_limits_estimate_ceiling_range;
comment on column public.google_ai_model_limits.estimate_ceiling is
  'The real input tokens are at most so many times the learned estimate: what is booked for a prompt that could be counted and was not. 1.4286 where estimates are at most 30 % too low.';
