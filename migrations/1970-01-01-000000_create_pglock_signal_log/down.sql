DROP TABLE pglock.signal_log;
DROP SCHEMA pglock;
