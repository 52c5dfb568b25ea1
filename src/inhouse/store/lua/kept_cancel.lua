-- Its client wants no more of it; the maker hears of it with its next sign. ARGV: tenant.
-- Returns the state it was in, '' where there is none of this tenant.
local found = redis.call('HMGET', about, 'tenant', 'state')
if found[1] ~= ARGV[1] or found[2] == 'x' then return '' end
if found[2] == 'r' then redis.call('HSET', about, 'cancelled', 1) end
return found[2]
