-- Whoever has been in touch for longer than a lease looks for those that were not. ARGV: the limits (attempts, dead
-- letters, error, kept for ms), why, how long the dead are kept in ms.
-- Jobs whose lease ran out go on elsewhere. Workers and gateways that are gone are forgotten, and with a gateway the
-- jobs that only it waited for. Returns {jobs that go on, jobs given up, jobs dropped}.
if not redis.call('SET', key('swept'), '1', 'NX', 'PX', 200) then
  return {0, 0, 0}
end
local limits = {attempts_max = tonumber(ARGV[1]), dead_max = ARGV[2], error = ARGV[3], keep_ms = ARGV[4]}
local now = now_ms()
local counts = {again = 0, dead = 0, dropped = 0}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('running'), '-inf', now, 'LIMIT', 0, 100)) do
  local found = redis.call('HMGET', key('job:' .. id), 'state', 'worker')
  if found[1] == 'R' then
    local what = again(id, ARGV[5], 1, found[2], limits)
    counts[what] = counts[what] + 1
  else
    redis.call('ZREM', key('running'), id)
  end
end
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', key('workers'), '-inf', now, 'LIMIT', 0, 100)) do
  redis.call('ZREM', key('workers'), worker)
  redis.call('HDEL', key('about'), worker)
  redis.call('DEL', key('to:' .. worker))
end
local gone = redis.call('ZRANGEBYSCORE', key('gateways'), '-inf', now, 'LIMIT', 0, 100)
if #gone > 0 then
  local lost = {}
  for _, gateway in ipairs(gone) do
    lost[gateway] = true
    redis.call('ZREM', key('gateways'), gateway)
    redis.call('HDEL', key('waiting'), gateway)
    redis.call('DEL', key('in:' .. gateway))
  end
  for _, class in ipairs(classes) do
    for _, id in ipairs(redis.call('ZRANGE', key('pending:' .. class), 0, -1)) do
      if lost[redis.call('HGET', key('job:' .. id), 'gateway')] then
        redis.call('ZREM', key('pending:' .. class), id)
        drop(id)
        counts.dropped = counts.dropped + 1
      end
    end
  end
end
redis.call('XTRIM', key('dead'), 'MINID', '~', math.max(0, now - tonumber(ARGV[6])))
return {counts.again, counts.dead, counts.dropped}
