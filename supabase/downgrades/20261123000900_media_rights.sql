-- The way down of 20261123000900_media_rights.sql.

set local lock_timeout = '10s';

-- Rights only get fewer on the way: tables stay closed to those to whom the migration closed them.
revoke all on table public.media_objects from authenticated;
drop policy media_objects_read on public.media_objects;
