-- The way down of 20261128000300_crawl_links.sql.

set local lock_timeout = '10s';

drop trigger eve_crawl_post_came on public.posts;
drop trigger eve_crawl_post_changed on public.posts;

drop function public.eve_crawl_links(uuid, jsonb, text);
drop function public.eve_crawl_post(uuid);

drop function eve.crawl_post_came();
