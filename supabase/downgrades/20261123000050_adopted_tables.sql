-- The way down of 20261123000050_adopted_tables.sql.

set local lock_timeout = '10s';

drop function eve.note_table(text);
drop function eve.return_table(text);
drop function eve.table_parts(text);

drop table eve.adopted_tables;
