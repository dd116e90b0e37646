-- Autovacuum analysed the month and the day that are being written every few thousand events, a second of a core each
-- time, for columns that no plan asks about: texts and the log are reached by their keys alone. What VACUUM finds out of
-- sizes is enough for them. The narrow tables are still analysed, but not every few seconds while they are small.
DO $$
DECLARE
    partition regclass;
BEGIN
    FOR partition IN SELECT inhrelid FROM pg_inherits WHERE inhparent IN ('event_text'::regclass, 'log'::regclass) LOOP
        EXECUTE format('ALTER TABLE %s SET (autovacuum_analyze_threshold = 2147483647)', partition);
    END LOOP;
END
$$;
ALTER TABLE event SET (autovacuum_analyze_threshold = 20000);
ALTER TABLE tag SET (autovacuum_analyze_threshold = 20000);
