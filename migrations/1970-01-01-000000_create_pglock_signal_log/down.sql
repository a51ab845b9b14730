DROP TABLE IF EXISTS pglock.signal_log;
DROP SCHEMA IF EXISTS pglock;
