-- Vision: what is known of pictures before a model sees them, what a tenant wants looked at (policy), what was decided and why, and what
-- it may cost (budgets).

set local lock_timeout = '10s';

create table if not exists eve.vision_pictures (
  tenant_id text not null,
  file_sha256 text not null,
  mime_type text not null,
  width integer,
  height integer,
  orientation smallint not null default 1,
  dhash bigint,
  no_dhash text,
  fault text,
  held_by uuid,
  held_until timestamptz,
  created_at timestamptz not null default now(),
  primary key (tenant_id, file_sha256),
  constraint vision_pictures_object_fkey foreign key (tenant_id, file_sha256) references public.media_objects (tenant_id, file_sha256)
    on update cascade on delete cascade,
  constraint vision_pictures_mime_type_length check (length(mime_type) <= 255),
  constraint vision_pictures_sizes_positive check (width > 0 and height > 0),
  constraint vision_pictures_orientation_range check (orientation between 1 and 8),
  constraint vision_pictures_no_dhash_form check (no_dhash ~ '^[a-z][a-z0-9_]{0,39}$' and (no_dhash is null or dhash is null)),
  constraint vision_pictures_fault_form check (fault ~ '^[a-z][a-z0-9_]{0,39}$'),
  constraint vision_pictures_held_whole check ((held_by is null) = (held_until is null))
) with (fillfactor = 80);
-- Two hashes that differ in at most three of their 64 bits have one of their four quarters in common.
create index if not exists vision_pictures_dhash_1_idx on eve.vision_pictures (tenant_id, (dhash & 65535)) where dhash is not null;
create index if not exists vision_pictures_dhash_2_idx on eve.vision_pictures (tenant_id, ((dhash >> 16) & 65535)) where dhash is not null;
create index if not exists vision_pictures_dhash_3_idx on eve.vision_pictures (tenant_id, ((dhash >> 32) & 65535)) where dhash is not null;
create index if not exists vision_pictures_dhash_4_idx on eve.vision_pictures (tenant_id, ((dhash >> 48) & 65535)) where dhash is not null;
comment on table eve.vision_pictures is 'What a picture''s own bytes say of it: read once.';
comment on column eve.vision_pictures.width is 'Pixels, as shown: turned as EXIF says. Null: the header does not tell, see fault.';
comment on column eve.vision_pictures.orientation is 'As EXIF counts it, 1 to 8; 1: as stored.';
comment on column eve.vision_pictures.dhash is 'Which of two neighbours is brighter, in 9 x 8 grey pixels of the picture as shown: 64 bits. Null: see no_dhash.';
comment on column eve.vision_pictures.no_dhash is 'Why there is none: type, too_large, not_decoded, or plain (a plain colour would look like all such).';
comment on column eve.vision_pictures.fault is 'Why it cannot be looked at: not_a_picture, too_many_pixels, ...; null: it can.';
comment on column eve.vision_pictures.held_by is 'The job that looks at it until held_until: another one for the same picture waits, and finds its result.';

create table if not exists eve.vision_policies (
  tenant_id text primary key references eve.tenants (id) on delete cascade,
  policy jsonb not null,
  version integer not null default 1,
  updated_at timestamptz not null default now(),
  constraint vision_policies_policy_size check (jsonb_typeof(policy) = 'object' and octet_length(policy::text) <= 16384)
);
comment on table eve.vision_policies is 'What a tenant wants looked at and by whom, as shared/vision/policy.ts reads it; a tenant without a row has the usual policy.';
comment on column eve.vision_policies.version is 'Grows with every change: decisions name it.';

create table if not exists eve.vision_decisions (
  id bigint generated always as identity primary key,
  tenant_id text not null,
  post_id uuid not null,
  file_sha256 text not null,
  job_id uuid,
  action text not null,
  reason text not null,
  detail jsonb not null default '{}',
  policy_version integer not null,
  trace_id text,
  decided_at timestamptz not null,
  constraint vision_decisions_action_known check (action in ('analyse', 'copy', 'skip', 'wait')),
  constraint vision_decisions_reason_form check (reason ~ '^[a-z][a-z0-9_]{0,39}$'),
  constraint vision_decisions_detail_size check (octet_length(detail::text) <= 8192)
);
create index if not exists vision_decisions_post_id_idx on eve.vision_decisions (post_id, id desc);
create index if not exists vision_decisions_tenant_id_idx on eve.vision_decisions (tenant_id, id desc);
create index if not exists vision_decisions_decided_at_idx on eve.vision_decisions (decided_at);
comment on table eve.vision_decisions is 'What was done with a picture, and why.';
comment on column eve.vision_decisions.action is 'analyse: by the first analyst of detail that can; copy: the result of another picture that looks the same; skip: not looked at; wait: nobody can now.';
comment on column eve.vision_decisions.detail is 'What the decision rests on: {"message", "analysts": [{"name", "resolution"}], "passed_over": [{"name", "why"}], ...}.';

create table if not exists eve.vision_budgets (
  tenant_id text not null references eve.tenants (id) on delete cascade,
  provider text not null,
  period text not null,
  unit text not null,
  most bigint not null,
  updated_at timestamptz not null default now(),
  primary key (tenant_id, provider, period, unit),
  constraint vision_budgets_provider_length check (length(provider) between 1 and 100),
  constraint vision_budgets_period_known check (period in ('day', 'month')),
  constraint vision_budgets_unit_known check (unit in ('tokens', 'pictures')),
  constraint vision_budgets_most_positive check (most >= 0)
);
comment on table eve.vision_budgets is 'How much a tenant''s analyses may cost. Without a row there is no limit.';
comment on column eve.vision_budgets.provider is 'An analyst by its name, such as model:gemini-3.5-flash; *: all together that spend tokens.';
comment on column eve.vision_budgets.period is 'Of UTC.';

create table if not exists eve.vision_spending (
  tenant_id text not null,
  provider text not null,
  period text not null,
  began_on date not null,
  tokens bigint not null default 0,
  tokens_reserved bigint not null default 0,
  pictures bigint not null default 0,
  pictures_reserved bigint not null default 0,
  primary key (tenant_id, provider, period, began_on),
  constraint vision_spending_period_known check (period in ('day', 'month')),
  constraint vision_spending_positive check (tokens >= 0 and tokens_reserved >= 0 and pictures >= 0 and pictures_reserved >= 0)
) with (fillfactor = 50);
create index if not exists vision_spending_began_on_idx on eve.vision_spending (began_on);
comment on table eve.vision_spending is 'What analyses have cost, and what those under way may cost yet: counted whether or not there is a budget.';

create table if not exists eve.vision_reservations (
  id text primary key,
  tenant_id text not null,
  provider text not null,
  counts_in_all boolean not null,
  day date not null,
  tokens bigint not null,
  pictures bigint not null,
  state text not null default 'reserved',
  request_id text,
  created_at timestamptz not null,
  constraint vision_reservations_id_length check (length(id) between 1 and 100),
  constraint vision_reservations_provider_length check (length(provider) between 1 and 100),
  constraint vision_reservations_state_known check (state in ('reserved', 'settled', 'given_back')),
  constraint vision_reservations_positive check (tokens >= 0 and pictures >= 0)
) with (fillfactor = 50);
create index if not exists vision_reservations_created_at_idx on eve.vision_reservations (created_at);
comment on table eve.vision_reservations is 'What one step of an analysis takes of budgets: its estimate while it is under way, and at the end the truth.';
comment on column eve.vision_reservations.day is 'Of UTC, with its month: where it counts, also when it is settled later.';
comment on column eve.vision_reservations.counts_in_all is 'Whether it counts under * too.';
comment on column eve.vision_reservations.request_id is 'The call of a model with whose slot it was taken; null: no lane has anything to do with it.';
comment on column eve.vision_reservations.state is 'One that is never settled counts with its estimate: nobody knows whether it was paid for.';

insert into eve.job_kinds (kind, description, expires_after, max_tries, run_within, max_body_bytes, keep) values
  ('vision', 'A picture that is looked at.', '7 days', 5, '60 seconds', 4096, '7 days')
on conflict (kind) do nothing;

insert into eve.alert_kinds (kind, title, advice) values
  ('vision_budget_near', 'A budget of vision is nearly used up', 'See `eve vision budget`. When it is used up, pictures are read by OCR or wait, as the policy says.'),
  ('vision_budget_used_up', 'A budget of vision is used up', 'Pictures are read by OCR or wait, as the policy says, until the period ends or somebody raises it: `eve vision budget`.')
on conflict (kind) do nothing;

insert into eve.retention (table_name, keep, at_least, batch_function, description) values
  ('eve.vision_decisions', '90 days', '1 day', 'retention_of_vision', 'What was done with pictures, and why.'),
  ('eve.vision_reservations', '40 days', '32 days', 'retention_of_vision', 'Steps of analyses in budgets: as long as one may still be settled, which is a month at most.'),
  ('eve.vision_spending', '400 days', '62 days', 'retention_of_vision', 'What analyses have cost, by day and month.')
on conflict (table_name) do nothing;

create or replace function eve.retention_of_vision(
  relation regclass, table_name text, before timestamptz, at_most integer, after jsonb, out deleted bigint, out next_after jsonb
)
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_batch record;
begin
  if retention_of_vision.table_name = 'eve.vision_spending' then
    with old as (
      select s.ctid as place
      from eve.vision_spending s
      where s.began_on < (retention_of_vision.before at time zone 'UTC')::date
      limit retention_of_vision.at_most
      for update skip locked
    )
    delete from eve.vision_spending s using old where s.ctid = old.place;
    get diagnostics deleted = row_count;
    next_after := case when deleted >= retention_of_vision.at_most then '{}'::jsonb end;
    return;
  end if;
  select * into v_batch
  from eve.delete_oldest(
    retention_of_vision.relation,
    case retention_of_vision.table_name when 'eve.vision_decisions' then 'decided_at' else 'created_at' end,
    retention_of_vision.before, coalesce((retention_of_vision.after ->> 'at')::timestamptz, '-infinity'), retention_of_vision.at_most,
    'true'
  );
  if v_batch.seen >= retention_of_vision.at_most then
    next_after := jsonb_build_object('at', v_batch.last_at);
  end if;
  deleted := v_batch.deleted;
end;
$$;
