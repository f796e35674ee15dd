-- The way down of 20261123000350_media_seed.sql.

set local lock_timeout = '10s';

drop function eve.media_default_held();
drop function eve.media_name_default(text);
drop function eve.tenant_uses(text);
drop function public.eve_media_seed(jsonb, text);
