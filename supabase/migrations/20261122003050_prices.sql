-- What models cost, as far as it is known.

set local lock_timeout = '10s';

create table if not exists eve.model_prices (
  model text not null,
  input_usd numeric,
  cached_usd numeric,
  output_usd numeric,
  is_free boolean not null default false,
  as_of date not null,
  constraint model_prices_pkey primary key (model),
  constraint model_prices_model_size check (length(model) between 1 and 200),
  constraint model_prices_range check (
    input_usd between 0 and 1000000 and cached_usd between 0 and 1000000 and output_usd between 0 and 1000000
  )
);
comment on table eve.model_prices is 'What models cost, US dollars a million tokens. A model without a row, or with a null, has no known price.';
comment on column eve.model_prices.input_usd is 'Of input that no cache had.';
comment on column eve.model_prices.cached_usd is 'Of input that the provider had cached; null: as other input.';
comment on column eve.model_prices.output_usd is 'Of the answer and of thinking.';
comment on column eve.model_prices.is_free is 'Whether it is called in a free tier: it costs nothing, and the price says what it would have cost.';
comment on column eve.model_prices.as_of is 'The day on which the price was looked up.';
alter table eve.model_prices enable row level security;
revoke all on table eve.model_prices from public, anon, authenticated;
grant select, insert, update, delete on table eve.model_prices to service_role;

-- Of the models of 20261122000700_default_models.sql, as https://ai.google.dev/gemini-api/docs/pricing had them on that day, standard
-- tier; of embeddings Google's announcement. Gemma is served in the free tier alone: there is no price that it would have had.
-- docs/cost.md has the same table.
insert into eve.model_prices (model, input_usd, cached_usd, output_usd, is_free, as_of)
values
  ('gemini-3.5-flash', 1.5, 0.15, 9, false, '2026-10-08'),
  ('gemini-3.5-flash-lite', 0.3, 0.03, 2.5, false, '2026-10-07'),
  ('gemini-2.5-flash', 0.3, 0.03, 2.5, false, '2026-03-01'),
  ('gemini-embedding-001', 0.15, null, null, false, '2025-07-14'),
  ('gemma-4-31b-it', null, null, null, true, '2026-10-07'),
  ('gemma-4-26b-a4b-it', null, null, null, true, '2026-10-07'),
  ('gemma-3-27b', null, null, null, true, '2026-03-01'),
  ('gemma-3-27b-it', null, null, null, true, '2026-03-01')
on conflict (model) do nothing;
