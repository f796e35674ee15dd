-- The way down of 20261126000900_vision_rights.sql.

set local lock_timeout = '10s';

-- Rights only get fewer on the way: tables stay closed to those to whom the migration closed them.
revoke all on table public.posts, public.post_media_map, public.post_enrichment from authenticated;
drop policy post_enrichment_read on public.post_enrichment;
drop policy post_media_map_read on public.post_media_map;
drop policy posts_read on public.posts;
