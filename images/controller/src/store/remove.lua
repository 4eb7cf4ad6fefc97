-- Removes a value if it is still the one that is expected, and counts it no more.
-- KEYS: two of each owner, as for keep; the value's key. ARGV: the value. Gives 1 where it was removed.
local key = KEYS[#KEYS]
if redis.call('GET', key) ~= ARGV[1] then return 0 end
redis.call('UNLINK', key)
for owner = 1, (#KEYS - 1) / 2 do
    local index, sizes = KEYS[2 * owner - 1], KEYS[2 * owner]
    redis.call('HINCRBY', sizes, 'all', -(tonumber(redis.call('HGET', sizes, key)) or 0))
    redis.call('HDEL', sizes, key)
    redis.call('ZREM', index, key)
end
return 1
