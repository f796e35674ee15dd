-- The way down of 20261128000900_crawl_rights.sql.

set local lock_timeout = '10s';

-- Rights only get fewer on the way: tables stay closed to those to whom the migration closed them.
revoke all on table public.crawl_pages, public.articles, public.post_links from authenticated;
drop policy articles_read on public.articles;
drop policy crawl_pages_read on public.crawl_pages;
drop policy post_links_read on public.post_links;
