-- The way down of 20261123000560_media_proofs.sql.
-- seed: eve.media_proofs {}

set local lock_timeout = '10s';

drop function public.eve_media_proof_keep(text, text, bigint, text);
drop function public.eve_media_unproven(integer);

drop table eve.media_proofs;
