-- The way down of 20261128000200_crawl_fetching.sql.

set local lock_timeout = '10s';

drop function eve.crawl_is_queued(public.crawl_pages);
drop function eve.crawl_page_json(public.crawl_pages);
drop function eve.crawl_page_of(text, jsonb, text);
drop function eve.crawl_queue(uuid, jsonb, text, uuid, uuid);
drop function public.eve_crawl_ask(jsonb, jsonb, text, text, text, text);
drop function public.eve_crawl_begin(uuid, uuid, text, integer);
drop function public.eve_crawl_finish(uuid, uuid, jsonb, text);
drop function public.eve_crawl_job(uuid);
drop function public.eve_crawl_page(jsonb, uuid);
drop function public.eve_crawl_pages(jsonb, text, text, text, timestamp with time zone, integer);
drop function public.eve_crawl_release(bigint, integer, bigint, boolean);
drop function public.eve_crawl_robots(text, jsonb);
drop function public.eve_crawl_summarised(jsonb, uuid, text, text, text, text);
drop function public.eve_crawl_turn(text, integer, integer);
