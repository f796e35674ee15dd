-- The way down of 20261201000600_usage_parts.sql.

set local lock_timeout = '10s';

drop index eve.refusals_stage_idx;
drop index eve.requests_error_idx;
drop index eve.requests_stage_idx;

drop function public.eve_usage_parts(timestamp with time zone, timestamp with time zone, text);
