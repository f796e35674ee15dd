-- What people ask of vision: search, policies, figures, metrics.

set local lock_timeout = '10s';

-- Pictures whose words hold all of `query`, by their stems in Russian or English (quotes, `or` and `-` as in a web search), and that have
-- the label: either or both. The best of a thousand candidates. {"status": "listed", "found": [{"enrichment", "excerpt", "rank"}]}.
create or replace function public.eve_vision_search(
  actor jsonb, tenant_id text default null, query text default null, label text default null, at_most integer default 20
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_candidates constant integer := 1000;
  v_who constant jsonb := eve.tenant_of_actor(eve_vision_search.actor, eve_vision_search.tenant_id, 'vision');
  v_words constant text := nullif(lower(left(eve_vision_search.query, 1000) collate "und-x-icu"), '');
  v_query constant tsquery := websearch_to_tsquery('pg_catalog.russian', v_words) || websearch_to_tsquery('pg_catalog.english', v_words);
  v_label constant text := lower(nullif(left(eve_vision_search.label, 60), '') collate "und-x-icu");
  v_answer jsonb;
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  elsif v_words is null and v_label is null then
    raise exception 'search for words (q), for a label, or for both' using errcode = 'EV400';
  end if;
  execute format(
    'with candidates as materialized (
      select e.id, case when $2 is null then 0 else ts_rank(e.search, $2) end as rank, e.updated_at
      from public.post_enrichment e
      where e.tenant_id = $1 and e.status = ''done'' and %s
      limit $4
    ), best as (
      select * from candidates k order by k.rank desc, k.updated_at desc, k.id limit $5
    )
    select jsonb_build_object(
      ''status'', ''listed'',
      ''found'', coalesce(
        jsonb_agg(
          jsonb_build_object(
            ''enrichment'', eve.enrichment_json(e), ''rank'', b.rank,
            ''excerpt'', case when $2 is null then left(coalesce(e.vision_description, e.ocr_text, ''''), 200) else ts_headline(
              ''pg_catalog.russian'', left(concat_ws('' '', e.vision_description, e.ocr_text), 20000), $2, ''MaxFragments=2, MaxWords=25, MinWords=8''
            ) end
          )
          order by b.rank desc, b.updated_at desc, b.id
        ), ''[]''
      )
    )
    from best b join public.post_enrichment e on e.id = b.id',
    concat_ws(
      ' and ', case when v_words is not null then 'e.search @@ $2' end, case when v_label is not null then 'e.labels @> array[$3]' end
    )
  )
  into v_answer
  using v_who ->> 'tenant_id', v_query, v_label, v_candidates, least(greatest(eve_vision_search.at_most, 1), 100);
  return v_answer;
end;
$$;
comment on function public.eve_vision_search is 'Pictures of a tenant by what was found in them.';

-- A tenant's pictures, those that changed last first, of one status or of all. {"status": "listed", "pictures": [enrichment]}.
create or replace function public.eve_vision_list(actor jsonb, tenant_id text default null, which text default null, at_most integer default 50)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_vision_list.actor, eve_vision_list.tenant_id, 'vision');
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  return (
    select jsonb_build_object('status', 'listed', 'pictures', coalesce(jsonb_agg(eve.enrichment_json(e) order by e.updated_at desc, e.id), '[]'))
    from (
      select e.*
      -- Each status by the index of it, which has them in this order.
      from unnest(
        case when eve_vision_list.which is null then '{waiting,done,skipped,invalid,failed}' else array[eve_vision_list.which] end
      ) as s (status)
      cross join lateral (
        select *
        from public.post_enrichment e
        where e.tenant_id = v_who ->> 'tenant_id' and e.status = s.status and e.kind = 'vision'
        order by e.updated_at desc, e.id
        limit least(greatest(eve_vision_list.at_most, 1), 200)
      ) e
      order by e.updated_at desc, e.id
      limit least(greatest(eve_vision_list.at_most, 1), 200)
    ) e
  );
end;
$$;
comment on function public.eve_vision_list is 'A tenant''s pictures, those that changed last first.';

create or replace function public.eve_vision_policy(actor jsonb, tenant_id text default null)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_vision_policy.actor, eve_vision_policy.tenant_id, 'vision');
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  return jsonb_build_object(
    'status', 'found', 'tenant_id', v_who ->> 'tenant_id',
    'policy', (select p.policy from eve.vision_policies p where p.tenant_id = v_who ->> 'tenant_id'),
    'version', coalesce((select p.version from eve.vision_policies p where p.tenant_id = v_who ->> 'tenant_id'), 0),
    'updated_at', (select p.updated_at from eve.vision_policies p where p.tenant_id = v_who ->> 'tenant_id')
  );
end;
$$;
comment on function public.eve_vision_policy is 'A tenant''s policy of vision; null: the usual one, which is version 0.';

-- policy: what the functions have checked; null: the usual one again. For the project and administrators.
create or replace function public.eve_vision_policy_save(actor jsonb, policy jsonb, tenant_id text default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_vision_policy_save.actor, eve_vision_policy_save.tenant_id, 'vision');
  v_policy constant jsonb := coalesce(nullif(eve_vision_policy_save.policy, 'null'), '{}');
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  elsif not (v_who ->> 'project')::boolean then
    return eve.refused('credential_insufficient', 'Policies are set by the gateway''s owner: with the project''s secret key, or as an administrator.');
  end if;
  begin
    -- Never back to an earlier number, which decisions name.
    insert into eve.vision_policies as p (tenant_id, policy, updated_at)
    values (v_who ->> 'tenant_id', v_policy, eve.clock())
    on conflict on constraint vision_policies_pkey do update
    set policy = excluded.policy, version = p.version + 1, updated_at = excluded.updated_at;
  exception when check_violation then
    raise exception 'a policy is an object of at most 16 KiB' using errcode = 'EV400';
  end;
  return public.eve_vision_policy(eve_vision_policy_save.actor, v_who ->> 'tenant_id');
end;
$$;
comment on function public.eve_vision_policy_save is 'Sets a tenant''s policy of vision.';

-- How a tenant's pictures stand: {"status": "counted", "tenant_id", "pictures": {status: how many}, "decisions": [{"action", "reason", "times"}] of the
-- last `days`, "tokens", "from_cache", "copied", "oldest_waiting_at", "waits_for": [{"reason", "pictures"}]}.
create or replace function public.eve_vision_stats(actor jsonb, tenant_id text default null, days integer default 30)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_vision_stats.actor, eve_vision_stats.tenant_id, 'vision');
  v_tenant constant text := v_who ->> 'tenant_id';
  v_since constant timestamptz := eve.clock() - make_interval(days => least(greatest(eve_vision_stats.days, 1), 366));
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  return (
    select jsonb_build_object(
      'status', 'counted', 'tenant_id', v_tenant, 'since', v_since,
      'pictures', (
        select coalesce(jsonb_object_agg(s.status, s.pictures), '{}')
        from (
          select e.status, count(*) as pictures
          from public.post_enrichment e
          where e.tenant_id = v_tenant and e.kind = 'vision' and e.updated_at >= v_since
          group by e.status
        ) s
      ),
      'tokens', coalesce(sum(e.tokens), 0), 'from_cache', count(*) filter (where e.from_cache),
      'copied', count(*) filter (where e.same_as is not null),
      'oldest_waiting_at', min(e.created_at) filter (where e.status = 'waiting'),
      'decisions', (
        select coalesce(jsonb_agg(to_jsonb(d) order by d.times desc, d.action, d.reason), '[]')
        from (
          select d.action, d.reason, count(*) as times
          from eve.vision_decisions d
          where d.tenant_id = v_tenant and d.decided_at >= v_since
          group by d.action, d.reason
        ) d
      ),
      'waits_for', (
        select coalesce(jsonb_agg(to_jsonb(w) order by w.pictures desc, w.reason), '[]')
        from (
          select coalesce(w.reason, 'its turn') as reason, count(*) as pictures
          from public.post_enrichment w
          where w.tenant_id = v_tenant and w.kind = 'vision' and w.status = 'waiting'
          group by 1
          order by 2 desc
          limit 20
        ) w
      )
    )
    from public.post_enrichment e
    where e.tenant_id = v_tenant and e.kind = 'vision' and e.updated_at >= v_since
  );
end;
$$;
comment on function public.eve_vision_stats is 'How a tenant''s pictures stand, and what was decided.';

create or replace function public.eve_vision_metrics()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'samples', (
      select jsonb_build_array(jsonb_build_array('vision_pictures_waiting', '{}'::jsonb, count(*)))
      from public.post_enrichment e
      where e.status = 'waiting' and e.kind = 'vision'
    ),
    'histograms', (
      select coalesce(
        jsonb_agg(
          jsonb_build_array(
            'vision_analysis_duration_seconds', jsonb_build_object('provider', t.provider), to_jsonb(eve.vision_time_bounds()),
            to_jsonb(t.counts), t.total
          )
          order by t.provider
        ), '[]'
      )
      from eve.vision_times t
    )
  );
$$;
comment on function public.eve_vision_metrics is 'Gauges and histograms of vision, in the form of eve_metrics.';
