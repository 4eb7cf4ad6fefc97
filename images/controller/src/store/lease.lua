-- Takes one of so many leases. KEYS: a sorted set of leases by their ends, in milliseconds of Unix time.
-- ARGV: the lease; the most that there may be; milliseconds until it ends. Gives 1 where it is taken.
local key, lease, most, lasting = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, ended in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', now)) do redis.call('ZREM', key, ended) end
-- The same again, where the answer to the first was lost.
redis.call('ZREM', key, lease)
if redis.call('ZCARD', key) >= most then return 0 end
redis.call('ZADD', key, now + lasting, lease)
local seconds = math.ceil(lasting / 1000) + 1
if redis.call('TTL', key) < seconds then redis.call('EXPIRE', key, seconds) end
return 1
