-- Proofs: content that its store did not hold to its hash is read and hashed, a large file over several runs.

set local lock_timeout = '10s';

create table if not exists eve.media_proofs (
  tenant_id text not null,
  file_sha256 text not null,
  hashed_bytes bigint not null,
  hash_state text not null,
  updated_at timestamptz not null,
  constraint media_proofs_pkey primary key (tenant_id, file_sha256),
  constraint media_proofs_object_fkey foreign key (tenant_id, file_sha256) references public.media_objects (tenant_id, file_sha256)
    on update cascade on delete cascade,
  constraint media_proofs_hashed_bytes_positive check (hashed_bytes > 0),
  constraint media_proofs_hash_state_length check (length(hash_state) <= 400)
);
comment on table eve.media_proofs is 'How far large objects have been read and hashed: the next run goes on there.';
comment on column eve.media_proofs.hash_state is 'SHA-256 of the first hashed_bytes bytes, unfinished, in base64, as the functions'' library keeps it.';

-- Objects of which it is not known that their content has their hash, the oldest first. Not while somebody holds an address for one: a
-- store that holds nobody to a hash would take another content there after the look. Each is handed out again after ten minutes, then twice
-- as long each time up to a day: one that is too large to be read in a run holds the others up no longer than that, and costs no more.
create or replace function public.eve_media_unproven(at_most integer default 50)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_unproven jsonb;
begin
  with next as materialized (
    select o.tenant_id, o.file_sha256
    from public.media_objects o
    where o.state = 'stored' and o.s3_key is not null and (o.address_until is null or o.address_until <= v_now)
      and (o.proof_at is null or o.proof_at <= v_now)
    order by o.proof_tries, o.last_seen_at
    limit least(greatest(eve_media_unproven.at_most, 1), 1000)
    for update skip locked
  ), tried as (
    update public.media_objects o
    set proof_tries = o.proof_tries + 1, proof_at = v_now + least(interval '10 minutes' * 2 ^ least(o.proof_tries, 10), interval '1 day')
    from next n
    where o.tenant_id = n.tenant_id and o.file_sha256 = n.file_sha256
    returning o.proof_tries, o.last_seen_at,
      eve.media_to_delete(o) || jsonb_build_object(
        'mime_type', o.mime_type, 'content_encoding', o.content_encoding,
        'proof', (
          select jsonb_build_object('hashed_bytes', p.hashed_bytes, 'state', p.hash_state)
          from eve.media_proofs p
          where p.tenant_id = o.tenant_id and p.file_sha256 = o.file_sha256
        )
      ) as one
  )
  select jsonb_agg(t.one order by t.proof_tries, t.last_seen_at) into v_unproven from tried t;
  return coalesce(v_unproven, '[]');
end;
$$;
comment on function public.eve_media_unproven is 'Objects whose content is still to be read and hashed.';

-- Keeps how far an object has been hashed, and hands it out again at once: it goes on, so it is no failed try. A state of null forgets it.
create or replace function public.eve_media_proof_keep(tenant_id text, file_sha256 text, hashed_bytes bigint, state text)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  if eve_media_proof_keep.state is null then
    delete from eve.media_proofs p
    where p.tenant_id = eve_media_proof_keep.tenant_id and p.file_sha256 = eve_media_proof_keep.file_sha256;
    return jsonb_build_object('status', 'forgotten');
  end if;
  update public.media_objects o
  set proof_tries = 0, proof_at = null
  where o.tenant_id = eve_media_proof_keep.tenant_id and o.file_sha256 = eve_media_proof_keep.file_sha256 and o.state = 'stored';
  if not found then
    return jsonb_build_object('status', 'gone');
  end if;
  insert into eve.media_proofs as p (tenant_id, file_sha256, hashed_bytes, hash_state, updated_at)
  values (
    eve_media_proof_keep.tenant_id, eve_media_proof_keep.file_sha256, eve_media_proof_keep.hashed_bytes, eve_media_proof_keep.state,
    eve.clock()
  )
  on conflict on constraint media_proofs_pkey do update
  set hashed_bytes = excluded.hashed_bytes, hash_state = excluded.hash_state, updated_at = excluded.updated_at
  where p.hashed_bytes < excluded.hashed_bytes;
  return jsonb_build_object('status', 'kept');
end;
$$;
comment on function public.eve_media_proof_keep is 'Keeps how far a large object has been hashed, or forgets it.';
