-- Rewrites the table: other sessions can neither read nor write it meanwhile.
ALTER TABLE orders ALTER COLUMN id TYPE bigint;
