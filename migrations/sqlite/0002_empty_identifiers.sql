-- {"#d": [""]} finds an addressable event (kinds 30000 to 39999) without a `d` tag: its identifier is the empty one,
-- and it is filed in `tag` as if it had ["d",""]. The program files the events that are stored already, since the hash
-- is its own, and notes here under which hash; NULL: not yet.
ALTER TABLE hashing ADD COLUMN empty_identifier INTEGER;
