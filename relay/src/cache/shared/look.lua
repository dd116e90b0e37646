-- Looks an entry up; where there is none, takes its lease. One trip instead of two for each miss.
-- KEYS: the entry, its lease. ARGV: the last byte of the entry that is read; the milliseconds that a lease lives.
-- Returns the entry, empty where there is none, and 1 where the lease was taken.
local entry = redis.call('GETRANGE', KEYS[1], 0, ARGV[1])
if #entry > 0 then return {entry, 0} end
return {entry, redis.call('SET', KEYS[2], 1, 'NX', 'PX', ARGV[2]) and 1 or 0}
