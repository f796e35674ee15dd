-- The way down of 20261125000600_chat_metrics.sql.
-- rows: eve.metric_counters where (labels, metric) in (('{"state":"complete"}'::jsonb, 'eve_chat_answers_total'), ('{"state":"broken_off"}'::jsonb, 'eve_chat_answers_total'), ('{"state":"abandoned"}'::jsonb, 'eve_chat_answers_total'), ('{"by":"erasure"}'::jsonb, 'eve_chats_removed_total'), ('{"by":"retention"}'::jsonb, 'eve_chats_removed_total'))
-- seed: eve.metric_counters {}

set local lock_timeout = '10s';

delete from eve.metric_counters where (labels, metric) in (('{"state":"complete"}'::jsonb, 'eve_chat_answers_total'), ('{"state":"broken_off"}'::jsonb, 'eve_chat_answers_total'), ('{"state":"abandoned"}'::jsonb, 'eve_chat_answers_total'), ('{"by":"erasure"}'::jsonb, 'eve_chats_removed_total'), ('{"by":"retention"}'::jsonb, 'eve_chats_removed_total'));

drop function eve.chat_counted(text, text, text, bigint);
drop function eve.chat_rows(regclass);
drop function public.eve_chat_metrics();
