-- Telegram: the bots whose updates are taken in, the updates as they came, and what became of each message.
--
-- An update is written down when it comes and answered at once; a job does the rest. What a message says is kept beside its post, so that
-- a post can be put together again when one of its messages is edited, or when a part of an album comes late.

set local lock_timeout = '10s';

create table if not exists eve.telegram_bots (
  bot_id bigint primary key,
  username text,
  tenant_id text not null,
  chats text[],
  wanted text[] not null default '{photo,thumbnail,image/*,application/pdf}',
  is_connected boolean not null default true,
  connected_at timestamptz not null,
  updated_at timestamptz not null,
  constraint telegram_bots_tenant_id_fkey foreign key (tenant_id) references eve.tenants (id),
  constraint telegram_bots_bot_id_positive check (bot_id > 0),
  constraint telegram_bots_username_length check (length(username) between 1 and 100),
  constraint telegram_bots_lists_size check (
    cardinality(chats) <= 1000 and octet_length(chats::text) <= 65536 and cardinality(wanted) <= 50 and octet_length(wanted::text) <= 4096
  )
);
create index if not exists telegram_bots_tenant_id_idx on eve.telegram_bots (tenant_id);
comment on table eve.telegram_bots is 'Bots whose updates become posts. Their tokens are in the functions'' environment alone.';
comment on column eve.telegram_bots.bot_id is 'Telegram''s own number of it: what stands before the colon of its token.';
comment on column eve.telegram_bots.chats is 'Which chats'' messages become posts: numbers, or @names in small letters. Null: all; none: none.';
comment on column eve.telegram_bots.wanted is 'Which files are fetched: photo, thumbnail (of videos), and types of documents, such as image/*.';
comment on column eve.telegram_bots.is_connected is 'False: its updates are refused.';

create table if not exists eve.telegram_updates (
  bot_id bigint not null,
  update_id bigint not null,
  kind text not null,
  chat text,
  chat_name text,
  body jsonb,
  state text not null,
  reason text,
  job_id uuid,
  post_id uuid,
  trace_id text not null,
  received_at timestamptz not null,
  ended_at timestamptz,
  primary key (bot_id, update_id),
  constraint telegram_updates_bot_id_fkey foreign key (bot_id) references eve.telegram_bots (bot_id) on delete cascade,
  constraint telegram_updates_kind_form check (kind ~ '^[a-z][a-z_]{0,39}$'),
  constraint telegram_updates_texts_size check (length(chat) <= 60 and length(chat_name) <= 200 and length(reason) <= 500),
  constraint telegram_updates_body_size check (octet_length(body::text) <= 2097152),
  constraint telegram_updates_state_known check (state in ('waiting', 'done', 'ignored')),
  constraint telegram_updates_ended check ((state = 'waiting') = (ended_at is null)),
  constraint telegram_updates_body_waits check (body is not null or state <> 'waiting'),
  constraint telegram_updates_trace_id_form check (trace_id ~ '^[0-9a-f]{32}$')
) with (fillfactor = 80);
create index if not exists telegram_updates_received_at_idx on eve.telegram_updates (received_at);
create index if not exists telegram_updates_waiting_idx on eve.telegram_updates (bot_id, update_id) where state = 'waiting';
create index if not exists telegram_updates_ignored_idx on eve.telegram_updates (bot_id, received_at) where state = 'ignored';
comment on table eve.telegram_updates is 'What Telegram has sent, each once: it sends again what it has had no answer to.';
comment on column eve.telegram_updates.kind is 'message, edited_message, channel_post, ...; other: none that becomes a post.';
comment on column eve.telegram_updates.chat is 'As eve.telegram_messages has it.';
comment on column eve.telegram_updates.body is 'The update, until its job has ended.';
comment on column eve.telegram_updates.state is 'waiting: its job has not done it, yet or in vain; done; ignored: nothing was to be done, see reason.';
comment on column eve.telegram_updates.trace_id is 'Of the request that brought it; the parts of an album have one together, whichever comes first.';

create table if not exists eve.telegram_messages (
  bot_id bigint not null,
  chat text not null,
  message_id bigint not null,
  album text,
  version bigint not null,
  update_id bigint not null,
  post_id uuid,
  state text not null default 'posted',
  published_at timestamptz,
  text text not null default '',
  links text[] not null default '{}',
  facts jsonb not null default '{}',
  attachment jsonb,
  file_unique_id text,
  file_sha256 text,
  updated_at timestamptz not null,
  primary key (bot_id, chat, message_id),
  constraint telegram_messages_bot_id_fkey foreign key (bot_id) references eve.telegram_bots (bot_id) on delete cascade,
  constraint telegram_messages_post_id_fkey foreign key (post_id) references public.posts (id) on delete set null,
  constraint telegram_messages_state_known check (state in ('posted', 'deleted')),
  constraint telegram_messages_names_size check (length(chat) between 1 and 60 and length(album) <= 100 and length(file_unique_id) <= 200),
  constraint telegram_messages_sha256_form check (file_sha256 ~ '^[0-9a-f]{64}$'),
  constraint telegram_messages_texts_size check (
    octet_length(text) <= 65536 and cardinality(links) <= 50 and octet_length(links::text) <= 65536
    and octet_length(facts::text) <= 2048 and octet_length(attachment::text) <= 2048
  )
) with (fillfactor = 80);
create index if not exists telegram_messages_post_id_idx on eve.telegram_messages (post_id);
create index if not exists telegram_messages_album_idx on eve.telegram_messages (bot_id, chat, album) where album is not null;
create index if not exists telegram_messages_file_idx on eve.telegram_messages (bot_id, file_unique_id) where file_sha256 is not null;
create index if not exists telegram_messages_gone_idx on eve.telegram_messages (updated_at) where post_id is null;
comment on table eve.telegram_messages is 'Messages of posts as they read now: a post is put together from its messages. It goes when the post does; that it was there stays for a while, so that a late edit does not bring it back.';
comment on column eve.telegram_messages.chat is 'Telegram''s number of the chat; business: before it where a business account lets the bot read it.';
comment on column eve.telegram_messages.album is 'media_group_id: messages with the same one are one post.';
comment on column eve.telegram_messages.version is 'When it was written or last edited, in seconds since 1970: an update that is older changes nothing.';
comment on column eve.telegram_messages.attachment is 'What became of its file: {"kind", "status": stored, waiting, too_large, not_wanted or refused, "sha256"?, "reason"?, ...}.';
comment on column eve.telegram_messages.file_unique_id is 'Telegram''s name of the file''s content: what has been fetched is not fetched again.';

-- A post that is deleted, by whomever: its words go with it.
create or replace function eve.telegram_message_gone()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.state := 'deleted';
  new.text := '';
  new.links := '{}';
  new.facts := '{}';
  new.attachment := null;
  new.file_unique_id := null;
  new.file_sha256 := null;
  new.updated_at := eve.clock();
  return new;
end;
$$;
create or replace trigger eve_telegram_message_gone
before update of post_id on eve.telegram_messages
for each row
when (old.post_id is not null and new.post_id is null)
execute function eve.telegram_message_gone();

insert into eve.job_kinds (kind, description, expires_after, max_tries, run_within, max_body_bytes, keep) values
  ('telegram', 'An update of Telegram that becomes a post.', '7 days', 12, '60 seconds', 4096, '3 days')
on conflict (kind) do nothing;

-- The first one counts as a rise.
insert into eve.metric_counters (metric, labels, value)
values ('eve_telegram_updates_total', '{"kind": "", "result": "known"}', 0)
on conflict do nothing;

insert into eve.retention (table_name, keep, at_least, batch_function, description) values
  ('eve.telegram_updates', '30 days', '2 days', 'retention_of_telegram', 'Updates of Telegram: as long as it might send one again, which is a day.'),
  ('eve.telegram_messages', '30 days', '2 days', 'retention_of_telegram', 'That a message was there whose post is deleted.')
on conflict (table_name) do nothing;

create or replace function eve.retention_of_telegram(
  relation regclass, table_name text, before timestamptz, at_most integer, after jsonb, out deleted bigint, out next_after jsonb
)
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_batch record;
begin
  select * into v_batch
  from eve.delete_oldest(
    retention_of_telegram.relation,
    case retention_of_telegram.table_name when 'eve.telegram_updates' then 'received_at' else 'updated_at' end,
    retention_of_telegram.before, coalesce((retention_of_telegram.after ->> 'at')::timestamptz, '-infinity'),
    retention_of_telegram.at_most,
    case retention_of_telegram.table_name when 'eve.telegram_updates' then 'true' else 'post_id is null' end
  );
  if v_batch.seen >= retention_of_telegram.at_most then
    next_after := jsonb_build_object('at', v_batch.last_at);
  end if;
  deleted := v_batch.deleted;
end;
$$;
