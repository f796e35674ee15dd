-- The way down of 20261123000200_media_tables.sql.
-- rows: eve.settings where name in ('media_keep_days', 'vision_keep_days', 'crawl_keep_days', 'upload_keep_s')
-- seed: eve.settings {"name":"media_keep_days","value":30}
-- seed: eve.settings {"name":"vision_keep_days","value":14}
-- seed: eve.settings {"name":"crawl_keep_days","value":7}
-- seed: eve.settings {"name":"upload_keep_s","value":86400}
-- seed: eve.media_counters {}
-- seed: eve.media_limits {"name":"total","variable":"S3_TOTAL_LIMIT_GB","env_bytes":null,"limit_bytes":15000000000}
-- seed: eve.media_limits {"name":"emergency","variable":"S3_EMERGENCY_THRESHOLD_GB","env_bytes":null,"limit_bytes":14000000000}
-- seed: eve.media_limits {"name":"tenant","variable":"S3_PER_TENANT_LIMIT_GB","env_bytes":null,"limit_bytes":2000000000}
-- seed: eve.media_limits {"name":"media","variable":null,"env_bytes":null,"limit_bytes":10000000000}
-- seed: eve.media_limits {"name":"vision","variable":null,"env_bytes":null,"limit_bytes":2000000000}
-- seed: eve.media_limits {"name":"crawl","variable":null,"env_bytes":null,"limit_bytes":2000000000}
-- seed: eve.media_limits {"name":"spool","variable":null,"env_bytes":null,"limit_bytes":100000000}
-- seed: eve.media_reconciliation {}
-- seed: eve.media_stores {}

set local lock_timeout = '10s';

drop trigger eve_media_counter_of_tenant on eve.tenants;

delete from eve.settings where name in ('media_keep_days', 'vision_keep_days', 'crawl_keep_days', 'upload_keep_s');

drop function eve.media_bytes(public.media_objects);

drop table eve.media_aliases, eve.media_counters, eve.media_limits, eve.media_multiparts, eve.media_reconciliation, eve.media_references, eve.media_spool, eve.media_stores;

select eve.return_table('public.media_objects');

drop function eve.media_count_references();
drop function eve.media_counter_of_tenant();
