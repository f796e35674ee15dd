-- The short-lived tokens of notebooks, and the limits on anyone who shows a wrong credential or a bad request.

-- The network that an address belongs to, which is what refusals are counted by: an IPv4 address itself, also where it is
-- written as IPv6; of IPv6 the /64, since anyone who has one address has all of those. Empty: not an address.
create or replace function eve.network_of(address text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- Without an IPv6 address's zone, and without the port that some proxies write after IPv4.
  v_text constant text := regexp_replace(split_part(network_of.address, '%', 1), '^(\d+(?:\.\d+){3}):\d+$', '\1');
  v_address inet;
begin
  if v_text is null or not pg_input_is_valid(v_text, 'inet') then
    return '';
  end if;
  v_address := v_text::inet;
  if family(v_address) = 4 then
    return host(v_address);
  elsif v_address << '::ffff:0:0/96'::inet then
    return host('0.0.0.0'::inet + (v_address - '::ffff:0:0'::inet));
  end if;
  return network(set_masklen(v_address, 64))::text;
end;
$$;

-- Counts a refused credential, and answers the refusal. An id that belongs to nobody is not written down: it would be a
-- way to write whatever one likes. Nor is there a row for each of a flood's networks: see refusal_rows_per_minute.
create or replace function eve.refuse_access(
  place text, code text, key_id text, address text, detail text default null, wait_ms bigint default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_minute constant timestamptz := date_trunc('minute', eve.clock());
  v_place constant text := left(refuse_access.place, 40);
  v_address text := eve.network_of(refuse_access.address);
  v_subject text := coalesce((select c.name from eve.consumers c where c.key_id = refuse_access.key_id), '');
  v_most bigint;
begin
  update eve.access_refusals r
  set times = r.times + 1
  where r.minute = v_minute and r.place = v_place and r.code = refuse_access.code and r.address = v_address
    and r.subject = v_subject;
  if not found then
    select s.value into v_most from eve.settings s where s.name = 'refusal_rows_per_minute';
    if (select count(*) from (select from eve.access_refusals r where r.minute = v_minute limit v_most) noted) >= v_most then
      v_address := 'others';
      v_subject := '';
    end if;
    insert into eve.access_refusals (minute, place, code, address, subject)
    values (v_minute, v_place, refuse_access.code, v_address, v_subject)
    on conflict on constraint access_refusals_pkey do update set times = access_refusals.times + 1;
  end if;
  return jsonb_build_object(
    'status', 'refused', 'code', refuse_access.code, 'detail', refuse_access.detail,
    'retry_after_ms', refuse_access.wait_ms
  );
end;
$$;

-- One more turn within a minute's number of them, or the milliseconds until there is one again. The minute before counts
-- in proportion to how much of it still lies within 60 seconds.
create or replace function eve.take_issue_turn(subject text, per_minute bigint)
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant bigint := eve.clock_ms();
  v_minute constant bigint := v_now / 60000;
  v_left_ms constant bigint := 60000 - v_now % 60000;
  v_window eve.issue_windows;
begin
  insert into eve.issue_windows (subject, minute, used, used_before)
  values (take_issue_turn.subject, v_minute, 0, 0)
  on conflict do nothing;
  select * into v_window from eve.issue_windows w where w.subject = take_issue_turn.subject for update;
  if v_window.minute < v_minute then
    v_window.used_before := case when v_window.minute = v_minute - 1 then v_window.used else 0 end;
    v_window.used := 0;
    v_window.minute := v_minute;
  end if;
  if v_window.used + v_window.used_before * v_left_ms / 60000.0 >= take_issue_turn.per_minute then
    return v_left_ms;
  end if;
  update eve.issue_windows w
  set minute = v_window.minute, used = v_window.used + 1, used_before = v_window.used_before
  where w.subject = take_issue_turn.subject;
  -- Now and then those are cleared away who have not asked for an hour.
  if random() < 0.02 then
    delete from eve.issue_windows w
    where w.subject in (
      select o.subject from eve.issue_windows o where o.minute < v_minute - 60 limit 100 for update skip locked
    );
  end if;
  return 0;
end;
$$;

-- One more turn of a network, likewise. `shared`: what is counted here is not one address alone, so a right credential must
-- not be refused because of it: an IPv6 /64, what is no address, and all networks beyond refusal_rows_per_minute.
create or replace function eve.take_network_turn(kind text, address text, out wait_ms bigint, out shared boolean)
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_network text := eve.network_of(take_network_turn.address);
  v_minute constant bigint := eve.clock_ms() / 60000;
  v_most constant bigint := (select s.value from eve.settings s where s.name = 'refusal_rows_per_minute');
begin
  if not exists (select from eve.issue_windows w where w.subject = take_network_turn.kind || ' ' || v_network)
    and (select count(*) from (select from eve.issue_windows w where w.minute = v_minute limit v_most) noted) >= v_most then
    v_network := 'others';
  end if;
  shared := v_network = 'others' or v_network like '%/64' or v_network = '' and take_network_turn.address is not null;
  wait_ms := eve.take_issue_turn(
    take_network_turn.kind || ' ' || v_network,
    (select s.value from eve.settings s where s.name = 'issue_per_address_minute')
  );
end;
$$;

-- Counts a wrong credential against its network, and answers the refusal: beyond the minute's number it is when to come
-- back, and no longer what was wrong. A right credential is not asked about this.
create or replace function eve.refuse_wrong(place text, code text, key_id text, address text)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_turn constant record := eve.take_network_turn('wrong', refuse_wrong.address);
begin
  if v_turn.wait_ms > 0 then
    return eve.refuse_access(refuse_wrong.place, 'rate_limited', null, refuse_wrong.address, null, v_turn.wait_ms);
  end if;
  return eve.refuse_access(refuse_wrong.place, refuse_wrong.code, refuse_wrong.key_id, refuse_wrong.address);
end;
$$;

create or replace function eve.check_proof(key_id text, proof text)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if check_proof.key_id is null or check_proof.key_id !~ '^[0-9a-f]{16}$' then
    raise exception 'key_id must have 16 hexadecimal digits' using errcode = 'EV400';
  elsif check_proof.proof is null or check_proof.proof !~ '^[0-9a-f]{64}$' then
    raise exception 'proof must have 64 hexadecimal digits' using errcode = 'EV400';
  end if;
end;
$$;

create or replace function public.eve_authenticate_consumer(
  key_id text, proof text, address text default null, place text default 'llm-invoke'
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_consumer constant eve.consumers := eve.consumer_of_secret(
    eve_authenticate_consumer.key_id, eve_authenticate_consumer.proof
  );
begin
  if v_consumer.id is null then
    return eve.refuse_wrong(
      eve_authenticate_consumer.place, 'credential_invalid', eve_authenticate_consumer.key_id, eve_authenticate_consumer.address
    );
  elsif not v_consumer.is_active then
    return eve.refuse_access(
      eve_authenticate_consumer.place, 'consumer_disabled', eve_authenticate_consumer.key_id, eve_authenticate_consumer.address
    );
  end if;
  return jsonb_build_object(
    'status', 'known', 'consumer_id', v_consumer.id, 'name', v_consumer.name, 'kind', v_consumer.kind
  );
end;
$$;
comment on function public.eve_authenticate_consumer is 'Who holds a secret, found by its id and its proof. A refusal is counted in the audit.';

create or replace function public.eve_issue_token(
  key_id text default null,
  proof text default null,
  consumer text default null,
  address text default null,
  models text[] default null,
  class text default null,
  requests_budget integer default null,
  tokens_budget bigint default null,
  ttl_s integer default null,
  scopes text[] default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_place constant text := 'issue-kaggle-token';
  v_consumer eve.consumers;
  v_token eve.scoped_tokens;
  v_turn record;
  v_wait_ms bigint := 0;
  v_detail text;
  v_ttl_s integer;
  v_now constant timestamptz := date_trunc('second', eve.clock());
begin
  if eve_issue_token.key_id is null and eve_issue_token.consumer is null then
    raise exception 'give key_id and proof, or consumer' using errcode = 'EV400';
  end if;
  if eve_issue_token.key_id is not null then
    -- Everybody's attempts count against the network; only the holder's count against the consumer, or anybody could
    -- use up its turns.
    v_turn := eve.take_network_turn('address', eve_issue_token.address);
    v_wait_ms := v_turn.wait_ms;
    if v_wait_ms > 0 and not v_turn.shared then
      return eve.refuse_access(v_place, 'rate_limited', null, eve_issue_token.address, null, v_wait_ms);
    end if;
    v_consumer := eve.consumer_of_secret(eve_issue_token.key_id, eve_issue_token.proof);
    if v_consumer.name <> eve_issue_token.consumer then
      v_consumer := null;
    end if;
  else
    select * into v_consumer from eve.consumers c where c.name = eve_issue_token.consumer and c.kind <> 'project';
  end if;
  if v_consumer.id is null and v_wait_ms > 0 then
    return eve.refuse_access(v_place, 'rate_limited', null, eve_issue_token.address, null, v_wait_ms);
  elsif v_consumer.id is null then
    return eve.refuse_access(v_place, 'invalid_client', eve_issue_token.key_id, eve_issue_token.address);
  end if;

  v_wait_ms := eve.take_issue_turn(
    'consumer ' || v_consumer.id, (select s.value from eve.settings s where s.name = 'issue_per_consumer_minute')
  );
  if v_wait_ms > 0 then
    return eve.refuse_access(v_place, 'rate_limited', v_consumer.key_id, eve_issue_token.address, null, v_wait_ms);
  elsif not v_consumer.is_active then
    return eve.refuse_access(
      v_place, 'unauthorized_client', v_consumer.key_id, eve_issue_token.address, 'this consumer is switched off'
    );
  elsif v_consumer.kind <> 'notebook' then
    return eve.refuse_access(
      v_place, 'unauthorized_client', v_consumer.key_id, eve_issue_token.address,
      'tokens are for notebooks; a service calls llm-invoke with its own key'
    );
  end if;

  v_ttl_s := coalesce(eve_issue_token.ttl_s, v_consumer.token_ttl_s);
  v_detail := case
    when cardinality(eve_issue_token.models) = 0 then 'name at least one model, or leave models out'
    when not (eve_issue_token.models <@ coalesce(v_consumer.models, eve_issue_token.models))
      then 'a model is not among those of this consumer'
    when exists (
      select
      from unnest(eve_issue_token.models) m
      where not exists (select from public.google_ai_model_limits l where l.model = m)
    ) then 'a model does not exist'
    when cardinality(eve_issue_token.scopes) = 0 then 'name at least one of llm, media, chats, vision, intake, or leave scopes out'
    when not (eve_issue_token.scopes <@ v_consumer.scopes) then 'a scope is not among those of this consumer'
    when eve_issue_token.class not in ('interactive', 'batch') then 'class must be interactive or batch'
    when eve_issue_token.class = 'interactive' and v_consumer.max_class = 'batch' then 'this consumer has class batch'
    when eve_issue_token.requests_budget <= 0 or eve_issue_token.tokens_budget <= 0 then 'a budget must be positive'
    when v_ttl_s not between 60 and v_consumer.token_ttl_s
      then format('ttl must be between 60 and %s seconds', v_consumer.token_ttl_s)
  end;
  if v_detail is not null then
    return eve.refuse_access(v_place, 'invalid_scope', v_consumer.key_id, eve_issue_token.address, v_detail);
  end if;

  insert into eve.scoped_tokens (
    consumer_id, models, scopes, class, requests_budget, tokens_budget, issued_at, expires_at, address, issued_for
  )
  values (
    v_consumer.id, coalesce(eve_issue_token.models, v_consumer.models), coalesce(eve_issue_token.scopes, v_consumer.scopes),
    coalesce(eve_issue_token.class, v_consumer.max_class), eve_issue_token.requests_budget,
    eve_issue_token.tokens_budget, v_now, v_now + make_interval(secs => v_ttl_s), left(eve_issue_token.address, 100),
    case when eve_issue_token.key_id is null then 'project_key' else 'enrolment_secret' end
  )
  returning * into v_token;
  perform eve.log_access(
    'token_issued', v_consumer, v_token.id, eve_issue_token.address,
    jsonb_build_object('for', v_token.issued_for, 'expires_at', v_token.expires_at)
  );
  return jsonb_build_object(
    'status', 'issued', 'token_id', v_token.id, 'consumer_id', v_consumer.id, 'consumer', v_consumer.name,
    'models', v_token.models, 'scopes', v_token.scopes, 'class', v_token.class, 'requests_budget', v_token.requests_budget,
    'tokens_budget', v_token.tokens_budget, 'issued_at_s', extract(epoch from v_token.issued_at)::bigint,
    'expires_at_s', extract(epoch from v_token.expires_at)::bigint
  );
end;
$$;
comment on function public.eve_issue_token is 'Records a token for a notebook, within what its consumer may do, or says why not. The caller signs it.';

create or replace function public.eve_tokens(
  consumer text default null, include_ended boolean default false, at_most integer default 200
)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'id', t.id, 'consumer', t.name, 'models', t.models, 'scopes', coalesce(t.scopes, '{llm}'), 'class', t.class, 'requests_used', t.requests_used,
        'requests_budget', t.requests_budget, 'tokens_used', t.tokens_used, 'tokens_budget', t.tokens_budget,
        'issued_at', t.issued_at, 'expires_at', t.expires_at, 'revoked_at', t.revoked_at, 'address', t.address,
        'state', case when t.revoked_at is not null then 'revoked' when t.expires_at <= eve.clock() then 'expired' else 'live' end
      )
      order by t.issued_at desc, t.id
    ),
    '[]'
  )
  from (
    select s.*, c.name
    from eve.scoped_tokens s
    join eve.consumers c on c.id = s.consumer_id
    where (eve_tokens.consumer is null or c.name = eve_tokens.consumer)
      and (eve_tokens.include_ended or (s.revoked_at is null and s.expires_at > eve.clock()))
    order by s.issued_at desc
    limit least(greatest(eve_tokens.at_most, 1), 10000)
  ) t;
$$;
comment on function public.eve_tokens is 'Tokens that were issued, the newest first, with what was spent of them. Never the tokens themselves.';

create or replace function public.eve_token_revoke(
  token_id uuid default null, consumer text default null, reason text default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_consumer eve.consumers;
  v_token record;
  v_revoked jsonb := '[]';
begin
  if (eve_token_revoke.token_id is null) = (eve_token_revoke.consumer is null) then
    raise exception 'give either a token''s id or a consumer''s name' using errcode = 'EV400';
  end if;
  if eve_token_revoke.consumer is not null then
    v_consumer := eve.consumer_named(eve_token_revoke.consumer);
  elsif not exists (select from eve.scoped_tokens t where t.id = eve_token_revoke.token_id) then
    raise exception 'there is no token %', eve_token_revoke.token_id using errcode = 'EV400';
  end if;
  for v_token in
    update eve.scoped_tokens t
    set revoked_at = eve.clock(), revoked_reason = left(eve_token_revoke.reason, 500)
    -- In the order in which settlements take them.
    where t.id in (
        select o.id
        from eve.scoped_tokens o
        where o.id = eve_token_revoke.token_id or o.consumer_id = v_consumer.id
        order by o.id
        for no key update
      )
      and t.revoked_at is null and t.expires_at > eve.clock()
    returning t.id, t.consumer_id
  loop
    select * into v_consumer from eve.consumers c where c.id = v_token.consumer_id;
    perform eve.log_access(
      'token_revoked', v_consumer, v_token.id, details => jsonb_build_object('reason', left(eve_token_revoke.reason, 500))
    );
    v_revoked := v_revoked || to_jsonb(v_token.id);
  end loop;
  return jsonb_build_object('revoked', v_revoked);
end;
$$;
comment on function public.eve_token_revoke is 'Ends one token, or all of a consumer''s, for good: the next reservation refuses it.';

-- A credential that was refused without asking the database. A token whose time has passed was a right one, and its holder
-- has to learn that it is the time: only wrong ones are counted against their network.
create or replace function public.eve_log_refused_token(
  code text, address text default null, place text default 'llm-invoke'
)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select case
    when eve_log_refused_token.code = 'token_revoked'
      then eve.refuse_access(eve_log_refused_token.place, eve_log_refused_token.code, null, eve_log_refused_token.address)
    else eve.refuse_wrong(
      eve_log_refused_token.place, left(eve_log_refused_token.code, 40), null, eve_log_refused_token.address
    )
  end;
$$;
comment on function public.eve_log_refused_token is 'Counts a credential that was refused without asking the database; says whether its network has sent too many.';

-- Requests that were answered 400, or likewise before anything else could be written down of them: counted by code, consumer and
-- minute, so that anyone who sends nonsense is seen, and a flood of it fills nothing. The functions count for a second in memory and
-- add that in one call.

create or replace function public.eve_count_bad_requests(counts jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  with counted as (
    select left(t.code, 40) as code, coalesce(c.name, '') as subject, sum(greatest(t.times, 0))::bigint as times
    from jsonb_to_recordset(eve_count_bad_requests.counts) as t (code text, consumer_id uuid, times bigint)
    left join eve.consumers c on c.id = t.consumer_id
    where t.code is not null
    group by 1, 2
  ), noted as (
    insert into eve.bad_requests as b (minute, code, subject, times)
    select date_trunc('minute', eve.clock()), n.code, n.subject, n.times
    from counted n
    order by n.code, n.subject
    on conflict on constraint bad_requests_pkey do update set times = b.times + excluded.times
  )
  insert into eve.metric_counters as m (metric, labels, value)
  select 'eve_bad_requests_total', jsonb_build_object('code', n.code), sum(n.times)
  from counted n
  group by n.code
  order by n.code
  on conflict (metric, labels) do update set value = m.value + excluded.value;
  return jsonb_build_object('status', 'counted');
end;
$$;
comment on function public.eve_count_bad_requests is 'Adds what a function has refused with 400 and the like: a list of code, consumer_id (null: nobody was recognised) and times.';

create or replace function public.eve_bad_requests(
  since timestamptz default null, until timestamptz default null, consumer text default null, at_most integer default 200
)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(to_jsonb(one) order by one.times desc, one.code, one.consumer), '[]')
  from (
    select b.code, nullif(b.subject, '') as consumer, sum(b.times)::bigint as times, min(b.minute) as first_at,
      max(b.minute) as last_at
    from eve.bad_requests b
    where b.minute >= coalesce(date_trunc('minute', eve_bad_requests.since), '-infinity')
      and b.minute < coalesce(eve_bad_requests.until, 'infinity')
      and (eve_bad_requests.consumer is null or b.subject = eve_bad_requests.consumer)
    group by 1, 2
    order by 3 desc
    limit least(greatest(eve_bad_requests.at_most, 1), 10000)
  ) one;
$$;
comment on function public.eve_bad_requests is 'What was refused with 400 and the like, summed by code and consumer, the most frequent first.';
