-- The way down of 20261128000100_crawl_tables.sql.
-- rows: eve.retention where table_name in ('public.crawl_pages', 'eve.crawl_hosts')
-- seed: eve.retention {"keep":"30 days","at_least":"1 day","batch_rows":2000,"table_name":"public.crawl_pages","batch_function":"retention_of_crawl"}
-- seed: eve.retention {"keep":"30 days","at_least":"2 days","batch_rows":2000,"table_name":"eve.crawl_hosts","batch_function":"retention_of_crawl"}
-- rows: eve.metric_counters where metric = 'eve_crawl_fetches_total'
-- seed: eve.metric_counters {}
-- rows: eve.jobs where kind = 'crawl'
-- rows: eve.media_references where ref_kind = 'crawl_page'
-- rows: eve.job_kinds where kind in ('crawl')
-- seed: eve.job_kinds {"keep":"2 days","kind":"crawl","max_tries":4,"run_within":"00:01:00","outside_only":false,"expires_after":"2 days","max_body_bytes":16384,"max_result_bytes":262144}

set local lock_timeout = '10s';

delete from eve.metric_counters where metric = 'eve_crawl_fetches_total';
delete from eve.retention where table_name in ('public.crawl_pages', 'eve.crawl_hosts');
-- Nothing would free these files any more.
delete from eve.media_references where ref_kind = 'crawl_page';
delete from eve.jobs where kind = 'crawl';
delete from eve.job_queues where kind = 'crawl';
delete from eve.job_kinds where kind in ('crawl');

drop function eve.retention_of_crawl(regclass, text, timestamp with time zone, integer, jsonb);

drop table eve.crawl_hosts;

select eve.return_table('public.post_links');
select eve.return_table('public.articles');
select eve.return_table('public.crawl_pages');

drop function eve.crawl_page_uses();
