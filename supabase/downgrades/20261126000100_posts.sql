-- The way down of 20261126000100_posts.sql.
--
-- Tables that an application had before are given back with their rows (eve.return_table). Policies that the migration dropped are
-- in eve.adoption_warnings.
-- rows: eve.media_references where ref_kind = 'post'

set local lock_timeout = '10s';

-- Nothing would free these files any more.
delete from eve.media_references where ref_kind = 'post';

-- Those that refer to others first.
select eve.return_table('public.post_enrichment');
select eve.return_table('public.post_media_map');
select eve.return_table('public.posts');

drop function eve.enrichment_words(text, text, text[]);
drop function eve.post_media_uses();
