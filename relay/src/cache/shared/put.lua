-- Writes an entry unless Redis has one of the same epoch that is newer, or has more room.
-- KEYS: the entry, its lease. ARGV: the value; its time to live in milliseconds; the header of the value that the
-- writer could not use, empty where there was none: that value is replaced in any case. Returns 1 where the entry was
-- written.
-- The header: 2 bytes magic and 8 bytes epoch; then, big-endian, generation, position (8 bytes each) and limit (4);
-- then flags, of which the lowest bit says that the rows are complete. Numbers are compared in halves, since a Lua
-- number has 53 bits.
redis.call('UNLINK', KEYS[2])
local new = ARGV[1]
local old = redis.call('GETRANGE', KEYS[1], 0, 30)
if #old == 31 and old ~= ARGV[3] and string.sub(old, 1, 10) == string.sub(new, 1, 10) then
  local o = {struct.unpack('>I4I4I4I4I4B', old, 11)}
  local n = {struct.unpack('>I4I4I4I4I4B', new, 11)}
  local function compare(at)
    if n[at] ~= o[at] then return n[at] < o[at] and -1 or 1 end
    if n[at + 1] ~= o[at + 1] then return n[at + 1] < o[at + 1] and -1 or 1 end
    return 0
  end
  local generation = compare(1)
  if generation < 0 then return 0 end
  if generation == 0 then
    local less_room = n[5] < o[5] and n[6] % 2 == 0
    local position = compare(3)
    if position < 0 or less_room or (position == 0 and n[5] <= o[5]) then return 0 end
  end
end
redis.call('SET', KEYS[1], new, 'PX', ARGV[2])
return 1
