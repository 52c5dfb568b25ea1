-- It is forgotten; the maker hears of it with its next sign. ARGV: tenant, how long that is remembered in ms.
-- Returns 1, 0 where there is none of this tenant.
local found = redis.call('HMGET', about, 'tenant', 'state')
if found[1] ~= ARGV[1] or found[2] == 'x' then return 0 end
redis.call('DEL', about, events)
redis.call('HSET', about, 'tenant', ARGV[1], 'state', 'x')
redis.call('PEXPIRE', about, ARGV[2])
return 1
