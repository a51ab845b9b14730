-- Each schema with a history of migrations runs this file, but a database has only one log.
CREATE SCHEMA IF NOT EXISTS pglock;

CREATE TABLE IF NOT EXISTS pglock.signal_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sent_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL,
    outcome text NOT NULL,
    pid integer NOT NULL,
    backend_start timestamptz,
    username text,
    application_name text,
    state text,
    query text,
    transaction_seconds double precision,
    held text[] NOT NULL,
    blocked_seconds double precision NOT NULL,
    blocked_pid integer NOT NULL,
    sender_pid integer NOT NULL DEFAULT pg_backend_pid(),
    sender_username text NOT NULL DEFAULT session_user,
    sender_application_name text NOT NULL DEFAULT current_setting('application_name')
);

COMMENT ON TABLE pglock.signal_log IS 'sessions that were cancelled or terminated because they blocked prioritized code';
COMMENT ON COLUMN pglock.signal_log.kind IS 'cancel or terminate';
COMMENT ON COLUMN pglock.signal_log.outcome IS 'sent, gone, or denied and why';
COMMENT ON COLUMN pglock.signal_log.pid IS 'the session that was signalled; with backend_start it stays unique';
COMMENT ON COLUMN pglock.signal_log.held IS 'the locks it held, each as mode and object';
COMMENT ON COLUMN pglock.signal_log.blocked_seconds IS 'seconds for which it had blocked';
COMMENT ON COLUMN pglock.signal_log.blocked_pid IS 'the prioritized session';
COMMENT ON COLUMN pglock.signal_log.sender_pid IS 'the watcher that sent the signal';
