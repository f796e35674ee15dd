-- The way down of 20261124000900_job_rights.sql.

set local lock_timeout = '10s';
