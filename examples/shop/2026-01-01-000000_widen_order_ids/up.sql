-- Rewrites the table: nobody may read or write it meanwhile.
ALTER TABLE orders ALTER COLUMN id TYPE bigint;
