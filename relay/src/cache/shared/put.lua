-- Writes an entry unless what is there is of the same epoch and younger, or has more room.
-- KEYS: the entry, its lease. ARGV: the value, for how many milliseconds, and how the one begins that the writer has found to
-- be of no use (nothing where it found none): that one goes, whatever it is. Returns 1 where it was written.
-- The header: 2 bytes magic and 8 bytes epoch, then generation, position (8 bytes each) and limit (4), the highest byte
-- first, then flags, of which the lowest bit says that the rows are all there is. Numbers are compared in halves, for a
-- number here has 53 bits.
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
