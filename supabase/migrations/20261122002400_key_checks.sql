-- What is known of the keys: whether upstream accepts them, which models it lists for them, and a secret that has changed.

set local lock_timeout = '10s';

-- Whether what took a key out of use can pass without anybody giving it a new secret. A leaked, suspended or invalid key does
-- not come back by itself, nor does one whose credits are spent, which no question that is free of charge would show.
create or replace function eve.reason_may_pass(reason text)
returns boolean
language sql
immutable
set search_path = ''
as $$
  select coalesce(reason_may_pass.reason in ('secret_missing', 'service_disabled', 'key_restricted'), false);
$$;

-- Hand-made rows say google, google_ai, gemini or nothing and mean the same provider.
create or replace function eve.provider_name(provider text)
returns text
language sql
immutable
set search_path = ''
as $$
  select case
    when coalesce(lower(provider_name.provider), 'google') in ('google', 'google_ai', 'google-ai', 'gemini') then 'google'
    else lower(provider_name.provider)
  end;
$$;

-- Whether upstream's rejection is what keeps a key from being used. Anyone who switches a key off by hand leaves no reason with it
-- (eve.key_switched_off).
create or replace function eve.key_was_rejected(key public.google_ai_api_keys)
returns boolean
language sql
stable
set search_path = ''
as $$
  select (key_was_rejected.key).is_active is not true
    and (key_was_rejected.key).blocked_until = 'infinity'
    and coalesce((key_was_rejected.key).blocked_reason, '') not in ('', 'secret_missing');
$$;

create or replace function eve.rejected_hashes(key_id uuid)
returns text[]
language sql
stable
set search_path = ''
as $$
  select coalesce(array_agg(r.secret_hash order by r.rejected_at, r.secret_hash), '{}')
  from eve.rejected_secrets r
  where r.key_id = rejected_hashes.key_id;
$$;

-- A stage's key has no variable: its secret is in provider_configs (20261121001600), and providers_sync asks about it.
create or replace function public.eve_key_checks()
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'id', k.id, 'alias', coalesce(k.key_alias, k.id::text), 'env_var_name', k.env_var_name,
        'provider', eve.provider_name(k.provider), 'is_active', coalesce(k.is_active, false),
        -- Of no interest with these secrets; null: of interest with any.
        'unless', case
          when not (k.is_active or eve.reason_may_pass(k.blocked_reason)) then to_jsonb(eve.rejected_hashes(k.id))
        end
      )
      order by k.priority, k.id
    ), '[]'
  )
  from public.google_ai_api_keys k
  where coalesce(k.env_var_name, '') not like 'stage:%'
    and (
      k.is_active or eve.reason_may_pass(k.blocked_reason)
      or (eve.key_was_rejected(k) and exists (select from eve.rejected_secrets r where r.key_id = k.id))
    );
$$;
comment on function public.eve_key_checks is 'The keys that are worth asking about: those in use, those that are off for a reason that may pass, and, with other secrets than those it names, those that upstream rejected.';

-- What a check of a key found, and what follows: {"change": "enabled" | "disabled" | "none"}.
-- secret_hash: of the secret that upstream was asked with; null: it is not known.
create or replace function public.eve_key_checked(
  key_id uuid, outcome text, reason text default null, detail text default null, secret_hash text default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- Longer than from one check to the next, so that a key without a secret stays marked.
  v_missing_for constant interval := '40 minutes';
  v_now constant timestamptz := eve.clock();
  v_reason constant text := left(eve_key_checked.reason, 200);
  v_key record;
  v_rejected text[];
  v_change text := 'none';
begin
  if eve_key_checked.outcome is null
    or eve_key_checked.outcome not in ('works', 'rejected', 'secret_missing', 'unclear') then
    raise exception 'outcome must be works, rejected, secret_missing or unclear' using errcode = 'EV400';
  end if;
  -- Before the row, as statements that change it take it (eve.lock_routes).
  perform pg_advisory_xact_lock(eve.routes_lock());
  select coalesce(k.key_alias, k.id::text) as alias, coalesce(k.is_active, false) as is_active, k.blocked_until,
    k.blocked_reason, eve.key_was_rejected(k) as was_rejected
  into v_key
  from public.google_ai_api_keys k
  where k.id = eve_key_checked.key_id
  for no key update;
  if not found then
    delete from eve.key_checks c where c.key_id = eve_key_checked.key_id;
    delete from eve.key_models m where m.key_id = eve_key_checked.key_id;
    return jsonb_build_object('change', v_change);
  end if;
  v_rejected := eve.rejected_hashes(eve_key_checked.key_id);

  if eve_key_checked.outcome = 'works' then
    -- A key that is blocked and yet switched on was switched on by a person: what was said of it before is over. One that
    -- its owner switched off stays off, and so does one that was rejected for more than may pass since it was asked. What was
    -- rejected was a secret: another one that works is another key to upstream.
    if (v_key.is_active and v_key.blocked_until is not null)
      or (not v_key.is_active and eve.reason_may_pass(v_key.blocked_reason))
      or (v_key.was_rejected and v_rejected <> '{}' and eve_key_checked.secret_hash <> all (v_rejected)) then
      v_change := case when v_key.is_active and v_key.blocked_until <= v_now then 'none' else 'enabled' end;
      update public.google_ai_api_keys k
      set is_active = true, blocked_until = null, blocked_reason = null
      where k.id = eve_key_checked.key_id;
    end if;
    if v_key.is_active or v_change = 'enabled' then
      update eve.alerts a
      set closed_at = v_now
      where a.kind in ('key_disabled', 'secret_missing') and a.subject = eve_key_checked.key_id::text
        and a.closed_at is null;
      delete from eve.rejected_secrets r
      where r.key_id = eve_key_checked.key_id and r.secret_hash = eve_key_checked.secret_hash;
    end if;
  elsif eve_key_checked.outcome = 'rejected' and v_key.was_rejected then
    perform eve.remember_rejected_secret(eve_key_checked.key_id, eve_key_checked.secret_hash);
  elsif eve_key_checked.outcome = 'rejected' and v_key.is_active then
    v_change := 'disabled';
    perform eve.remember_rejected_secret(eve_key_checked.key_id, eve_key_checked.secret_hash);
    update public.google_ai_api_keys k
    set is_active = false, blocked_until = 'infinity', blocked_reason = coalesce(v_reason, 'key_invalid')
    where k.id = eve_key_checked.key_id;
    perform eve.open_alert(
      'key_disabled', eve_key_checked.key_id::text, 'critical',
      format('Key %s is not used: %s', v_key.alias, coalesce(v_reason, 'key_invalid'))
    );
  elsif eve_key_checked.outcome = 'secret_missing' and v_key.is_active
    and coalesce(v_key.blocked_until, '-infinity') < 'infinity' then
    v_change := case when v_key.blocked_until > v_now then 'none' else 'disabled' end;
    update public.google_ai_api_keys k
    set blocked_until = greatest(k.blocked_until, v_now + v_missing_for), blocked_reason = 'secret_missing'
    where k.id = eve_key_checked.key_id;
    perform eve.open_alert(
      'secret_missing', eve_key_checked.key_id::text, 'warning', format('Key %s is not used: secret_missing', v_key.alias)
    );
  end if;

  insert into eve.key_checks as c (key_id, checked_at, outcome, reason, detail, works_since)
  values (
    eve_key_checked.key_id, v_now, eve_key_checked.outcome, v_reason, left(eve_key_checked.detail, 500),
    case eve_key_checked.outcome when 'works' then v_now end
  )
  on conflict on constraint key_checks_pkey do update
  set checked_at = excluded.checked_at, outcome = excluded.outcome, reason = excluded.reason, detail = excluded.detail,
    -- A question that nobody answered says nothing against the key.
    works_since = case excluded.outcome
      when 'works' then coalesce(c.works_since, excluded.works_since)
      when 'unclear' then c.works_since
    end;
  return jsonb_build_object('change', v_change);
end;
$$;
comment on function public.eve_key_checked is 'Takes down what a check of a key found: puts it out of use, or back into use where its reason has passed.';

-- The models that upstream lists for a key: {"appeared", "vanished", "unblocked"}, each a list of models.
create or replace function public.eve_models_seen(key_id uuid, models text[])
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_models constant text[] := array(select distinct left(u.model, 200) from unnest(eve_models_seen.models) as u (model));
  v_first boolean;
  v_appeared text[];
  v_vanished text[];
  v_unblocked text[];
begin
  if coalesce(cardinality(eve_models_seen.models), 0) not between 1 and 2000 then
    raise exception 'models must name 1 to 2000 models' using errcode = 'EV400';
  end if;
  -- Two who take down the list of one key at once.
  perform pg_advisory_xact_lock(hashtextextended('eve models ' || eve_models_seen.key_id::text, 0));
  v_first := not exists (select from eve.key_models m where m.key_id = eve_models_seen.key_id);
  v_appeared := array(
    select u.model
    from unnest(v_models) as u (model)
    where not exists (
      select
      from eve.key_models m
      where m.key_id = eve_models_seen.key_id and m.model = u.model and m.vanished_at is null
    )
    order by u.model
  );
  insert into eve.key_models as m (key_id, model, first_listed_at, last_listed_at)
  select eve_models_seen.key_id, u.model, v_now, v_now
  from unnest(v_models) as u (model)
  on conflict on constraint key_models_pkey do update set last_listed_at = excluded.last_listed_at, vanished_at = null;
  with gone as (
    update eve.key_models m
    set vanished_at = v_now
    where m.key_id = eve_models_seen.key_id and m.vanished_at is null and m.model <> all (v_models)
    returning m.model
  )
  select array_agg(g.model order by g.model) into v_vanished from gone g;
  -- A model that upstream did not find for this key, and now lists again.
  with back as (
    delete from eve.key_model_blocks b
    where not v_first and b.key_id = eve_models_seen.key_id and b.reason = 'model_not_found' and b.model = any (v_appeared)
    returning b.model
  ), closed as (
    update eve.alerts a
    set closed_at = v_now
    from back b
    where a.kind = 'model_unavailable' and a.subject = eve_models_seen.key_id::text || ' ' || b.model and a.closed_at is null
  )
  select array_agg(b.model order by b.model) into v_unblocked from back b;
  update eve.key_checks c set models_listed_at = v_now where c.key_id = eve_models_seen.key_id;
  return jsonb_build_object(
    -- All of them appear on a first list, which is no news.
    'appeared', case when v_first then '[]' else to_jsonb(v_appeared) end,
    'vanished', coalesce(to_jsonb(v_vanished), '[]'), 'unblocked', coalesce(to_jsonb(v_unblocked), '[]')
  );
end;
$$;
comment on function public.eve_models_seen is 'Takes down the models that upstream lists for a key, and says what is new and what has gone.';

-- Compares the model rows with the lists: {"vanished": [..], "unlisted": [..]}. A model that served, and that no active key
-- lists any more, is an alert until it is listed again, replaced or switched off. Rows keep their replaced_by: a name that
-- upstream has given up goes on working by it.
create or replace function public.eve_models_compared()
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_model record;
  v_vanished text[] := '{}';
  v_unlisted text[] := '{}';
begin
  for v_model in
    with listed as (
      select m.model, bool_or(m.vanished_at is null) as is_listed
      from eve.key_models m
      join public.google_ai_api_keys k on k.id = m.key_id and k.is_active
      group by m.model
    )
    select r.model, listed.is_listed,
      (
        select string_agg(old.model, ', ' order by old.model)
        from public.google_ai_model_limits old
        where old.replaced_by = r.model and old.is_active
      ) as serves_for
    from public.google_ai_model_limits r
    left join listed on listed.model = r.model
    where r.is_active and r.replaced_by is null and eve.provider_name(r.provider) = 'google'
      and exists (select from listed)
    order by r.model
  loop
    if v_model.is_listed is null then
      v_unlisted := v_unlisted || v_model.model;
    elsif not v_model.is_listed then
      v_vanished := v_vanished || v_model.model;
      perform eve.open_alert(
        'model_vanished', v_model.model, 'warning',
        format(
          'No key lists %s any more%s: set replaced_by in google_ai_model_limits, or is_active to false',
          v_model.model, coalesce(' (it serves for ' || v_model.serves_for || ' too)', '')
        )
      );
    end if;
  end loop;
  update eve.alerts a
  set closed_at = eve.clock()
  where a.kind = 'model_vanished' and a.closed_at is null and a.subject <> all (v_vanished)
    -- Those about stages are closed by anyone who opened them.
    and not starts_with(a.subject, 'stage:');
  return jsonb_build_object('vanished', to_jsonb(v_vanished), 'unlisted', to_jsonb(v_unlisted));
end;
$$;
comment on function public.eve_models_compared is 'Says which models that should serve are on no key''s list, and opens and closes the alerts about them.';

-- A key whose secret has changed is used again.
--
-- Upstream rejects a secret, not the row that names it: a mistyped one, say, that is put right the next minute. So the hash of
-- what was rejected is kept, and anyone who finds another secret under the key's env_var_name says so. Three do: the gateway, when a
-- request finds no key; the maintenance operation key_health, once that secret works; the local stack as it starts. What a person
-- has switched off stays off.

-- A hash that nobody knows is no hash, and no reason to fail a settlement.
create or replace function eve.remember_rejected_secret(key_id uuid, secret_hash text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- More than the secrets that instances run with at one time.
  v_kept constant integer := 20;
begin
  if remember_rejected_secret.secret_hash is null or remember_rejected_secret.secret_hash !~ '^[0-9a-f]{64}$' then
    return;
  end if;
  insert into eve.rejected_secrets as r (key_id, secret_hash, rejected_at)
  values (remember_rejected_secret.key_id, remember_rejected_secret.secret_hash, eve.clock())
  on conflict on constraint rejected_secrets_pkey do update set rejected_at = excluded.rejected_at;
  delete from eve.rejected_secrets r
  where r.key_id = remember_rejected_secret.key_id
    and r.secret_hash in (
      select o.secret_hash
      from eve.rejected_secrets o
      where o.key_id = remember_rejected_secret.key_id
      order by o.rejected_at desc, o.secret_hash
      offset v_kept
    );
end;
$$;
comment on function eve.remember_rejected_secret is 'Keeps the hash of a secret that upstream rejected.';

-- Anyone who switches a key off means it, whatever it was blocked for: without the reason nothing switches it on again. The gateway's
-- own hand is known by its changing blocked_until in the same breath.
create or replace function eve.key_switched_off()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.blocked_until := null;
  new.blocked_reason := null;
  return new;
end;
$$;
create or replace trigger eve_key_switched_off
before update of is_active on public.google_ai_api_keys
for each row
when (
  old.is_active and new.is_active is not true
  and new.blocked_until is not distinct from old.blocked_until
  and new.blocked_reason is not distinct from old.blocked_reason
)
execute function eve.key_switched_off();

create or replace function eve.key_secrets_gone()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  delete from eve.rejected_secrets r where r.key_id = old.id;
  return null;
exception
  -- Anyone who may delete the key's row need not be let into schema eve. What stays says nothing of any secret in use.
  when insufficient_privilege then
    return null;
end;
$$;
create or replace trigger eve_key_secrets_gone
after delete on public.google_ai_api_keys
for each row
execute function eve.key_secrets_gone();

-- [{"id", "alias", "env_var_name", "rejected": [hashes]}]
create or replace function public.eve_keys_awaiting_secrets()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'id', k.id, 'alias', coalesce(k.key_alias, k.id::text), 'env_var_name', k.env_var_name,
        'rejected', to_jsonb(rejected.hashes)
      )
      order by k.priority, k.id
    ), '[]'
  )
  from public.google_ai_api_keys k
  cross join lateral (select eve.rejected_hashes(k.id) as hashes) rejected
  where k.env_var_name is not null and k.env_var_name not like 'stage:%'
    and (
      (eve.key_was_rejected(k) and rejected.hashes <> '{}')
      or (k.is_active and k.blocked_reason = 'secret_missing' and k.blocked_until > eve.clock())
    );
$$;
comment on function public.eve_keys_awaiting_secrets is 'The keys that another secret would put into use again, with the hashes of those that upstream has rejected.';

-- Anyone who calls this has found a secret with this hash: {"change": "enabled" | "none"}.
create or replace function public.eve_key_secret_changed(key_id uuid, secret_hash text)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_key public.google_ai_api_keys;
  v_rejected text[];
begin
  if eve_key_secret_changed.secret_hash is null or eve_key_secret_changed.secret_hash !~ '^[0-9a-f]{64}$' then
    raise exception 'secret_hash must be 64 hexadecimal digits' using errcode = 'EV400';
  end if;
  -- Before the row, as statements that change it take it (eve.lock_routes).
  perform pg_advisory_xact_lock(eve.routes_lock());
  select k.* into v_key
  from public.google_ai_api_keys k
  where k.id = eve_key_secret_changed.key_id
  for no key update;
  v_rejected := eve.rejected_hashes(eve_key_secret_changed.key_id);
  if eve_key_secret_changed.secret_hash = any (v_rejected) then
    return jsonb_build_object('change', 'none');
  end if;
  if eve.key_was_rejected(v_key) and v_rejected <> '{}' then
    -- Another secret may be of another project: which models it may use is to be seen.
    delete from eve.key_model_blocks b where b.key_id = eve_key_secret_changed.key_id;
  elsif not (v_key.is_active and v_key.blocked_reason = 'secret_missing' and v_key.blocked_until > eve.clock()) is true then
    return jsonb_build_object('change', 'none');
  end if;
  -- Its alerts are closed by the row's trigger.
  update public.google_ai_api_keys k
  set is_active = true, blocked_until = null, blocked_reason = null
  where k.id = eve_key_secret_changed.key_id;
  return jsonb_build_object('change', 'enabled');
end;
$$;
comment on function public.eve_key_secret_changed is 'Puts a key into use again whose secret is another than those that upstream has rejected.';
