-- The way down of 20261124001200_dead_letters.sql.

set local lock_timeout = '10s';

drop trigger eve_dead_letters_gone on eve.dead_letters;

drop function eve.dead_letter_json(eve.dead_letters);
drop function eve.dead_letters_meant(bigint[], text, integer);
drop function eve.event_tries(bigint);
drop function public.eve_dead_letter(bigint);
drop function public.eve_dead_letters(text, text, bigint, integer);
drop function public.eve_dead_letters_drop(bigint[], text);
drop function public.eve_dead_letters_replay(bigint[], text);

drop function eve.dead_letters_gone();
