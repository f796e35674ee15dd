-- The way down of 20261201000100_figures.sql.

set local lock_timeout = '10s';

drop function public.eve_consumer_page(text, text, integer);
drop function public.eve_request_log(text, text, text, text, timestamp with time zone, timestamp with time zone, text, integer);
