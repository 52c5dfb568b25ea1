-- A job comes. ARGV: id, class, tenant, weight, cost in tokens, gateway, payload, lifetime in ms.
-- Its turn is a start tag of start-time fair queueing: from the class's clock, or where its tenant's last job ends.
-- Returns 1, or 0 where it is there already.
local id, class, tenant, weight, cost = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local job = key('job:' .. id)
if redis.call('EXISTS', job) == 1 then
  return 0
end
local field = class .. ' ' .. tenant
local clock = tonumber(redis.call('HGET', key('turns'), 'clock:' .. class) or '0')
local start = math.max(clock, tonumber(redis.call('HGET', key('tags'), field) or '0'))
redis.call('HSET', key('tags'), field, start + cost / weight)
redis.call('PEXPIRE', key('tags'), 3600000)
redis.call('HSET', job, 'state', 'P', 'class', class, 'tenant', tenant, 'weight', weight, 'cost', cost,
  'gateway', ARGV[6], 'payload', ARGV[7], 'epoch', 0, 'attempts', 0, 'seq', 0, 'bytes', 0, 'worker', '')
redis.call('PEXPIRE', job, ARGV[8])
redis.call('ZADD', key('pending:' .. class), start, id)
ring()
return 1
