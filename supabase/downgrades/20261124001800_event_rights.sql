-- The way down of 20261124001800_event_rights.sql.

set local lock_timeout = '10s';
