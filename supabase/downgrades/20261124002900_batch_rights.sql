-- The way down of 20261124002900_batch_rights.sql.

set local lock_timeout = '10s';
