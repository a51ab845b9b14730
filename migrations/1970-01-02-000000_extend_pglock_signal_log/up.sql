-- In a further history of the same database the columns exist, perhaps in a table of another role.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_attribute
               WHERE attrelid = 'pglock.signal_log'::regclass AND attname = 'wait_path' AND NOT attisdropped) THEN
        RETURN;
    END IF;
    ALTER TABLE pglock.signal_log
        ADD COLUMN database text,
        ADD COLUMN client_addr text,
        ADD COLUMN awaited text,
        ADD COLUMN wait_path integer[],
        ADD COLUMN blocked_query text,
        ADD COLUMN work text;
    COMMENT ON COLUMN pglock.signal_log.database IS 'the database of the session that was signalled';
    COMMENT ON COLUMN pglock.signal_log.client_addr IS 'the address of its client; null on a Unix socket';
    COMMENT ON COLUMN pglock.signal_log.awaited IS 'the lock that was waited for, as mode and object';
    COMMENT ON COLUMN pglock.signal_log.wait_path IS 'the sessions from the prioritized one to the one that was signalled, each of which blocked the one before';
    COMMENT ON COLUMN pglock.signal_log.blocked_query IS 'the query of the prioritized session';
    COMMENT ON COLUMN pglock.signal_log.work IS 'the migration that was prioritized';
END
$$;
