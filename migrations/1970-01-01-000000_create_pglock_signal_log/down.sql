-- The log stays while another history of this database has applied the migration.
DO $$
DECLARE
    history regclass;
    is_applied boolean;
BEGIN
    FOR history IN
        SELECT c.oid FROM pg_class AS c
        WHERE c.relname = '__diesel_schema_migrations' AND c.relkind IN ('r', 'p')
            AND c.relpersistence <> 't' AND c.oid IS DISTINCT FROM to_regclass('__diesel_schema_migrations')
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE version = %L)', history, '19700101000000')
            INTO is_applied;
        IF is_applied THEN
            RETURN;
        END IF;
    END LOOP;
    DROP TABLE IF EXISTS pglock.signal_log;
    DROP SCHEMA IF EXISTS pglock;
END
$$;
