-- A gateway says that it is there, and what waits in it; it hears how things stand. ARGV: gateway, lease in ms, what
-- waits (JSON), how many shares (`class tenant`) follow, these, then the ids of its jobs.
-- Returns {workers: id, about, …}, jobs that run, jobs that wait here, {gateways: id, waiting, …}, {seq of each job, -1
-- where there is no such job}, {what each share has had, of all gateways}}.
local gateway, lease_ms = ARGV[1], tonumber(ARGV[2])
local now = now_ms()
redis.call('ZADD', key('gateways'), now + lease_ms, gateway)
redis.call('HSET', key('waiting'), gateway, ARGV[3])
redis.call('PEXPIRE', key('in:' .. gateway), 600000)
local workers, gateways, seqs = {}, {}, {}
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', key('workers'), '(' .. now, '+inf')) do
  workers[#workers + 1] = worker
  workers[#workers + 1] = redis.call('HGET', key('about'), worker) or '{}'
end
for _, other in ipairs(redis.call('ZRANGEBYSCORE', key('gateways'), '(' .. now, '+inf')) do
  gateways[#gateways + 1] = other
  gateways[#gateways + 1] = redis.call('HGET', key('waiting'), other) or '{}'
end
local served = {}
local shares = tonumber(ARGV[4])
for at = 5, 4 + shares do
  served[#served + 1] = redis.call('HGET', key('served'), ARGV[at]) or '0'
end
for at = 5 + shares, #ARGV do
  seqs[#seqs + 1] = tonumber(redis.call('HGET', key('job:' .. ARGV[at]), 'seq') or -1)
end
local pending = 0
for _, class in ipairs(classes) do
  pending = pending + redis.call('ZCARD', key('pending:' .. class))
end
return {workers, redis.call('ZCARD', key('running')), pending, gateways, seqs, served}
