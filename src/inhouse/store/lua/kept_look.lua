-- How an answer stands. ARGV: tenant, how long a maker that is late may take to come back in ms, whether this is a reader
-- who follows it 0|1.
-- Returns nothing where there is none of this tenant, or {state, late 0|1|2, count, cancelled, api, shown, status,
-- refusal}; late 2: its maker is gone, and whoever sees it gives it up.
local found = redis.call('HMGET', about, 'tenant', 'state', 'until', 'late', 'count', 'cancelled', 'api', 'shown',
  'status', 'refusal')
if found[1] ~= ARGV[1] or found[2] == 'x' then return {} end
local now, late = now_ms(), 0
if found[2] == 'r' and now > tonumber(found[3]) then
  if not found[4] then redis.call('HSET', about, 'late', now) end
  late = found[4] and now - tonumber(found[4]) >= tonumber(ARGV[2]) and 2 or 1
end
if ARGV[3] == '1' and found[2] == 'r' then redis.call('HSET', about, 'followed', now) end
return {found[2], late, tonumber(found[5]), found[6] or '0', found[7], found[8] or '', found[9] or '0', found[10] or ''}
