-- The queue of one model. This file stands before each of the other queue_*.lua when they are loaded.
--
-- KEYS[1] is the base, `inhouse:queue:{model}`; all keys are made of it, so that the tag in braces puts them into one
-- slot of a Redis Cluster. Times are milliseconds of Redis' own clock.
--
--   key                 type    what                                                            lives
--   pending:<class>     zset    job → its turn: virtual start time, -1 for one that was begun   while there are some
--   turns               hash    clock:<class>, passed:<class>                                   1 h after the last job
--   tags                hash    <class> <tenant> → virtual finish time of its last job          1 h after the last job
--   served              hash    <class> <tenant> → tokens / weight that it has had                    1 h after the last job
--   running             zset    job → end of the lease of the worker that has it                while there are some
--   workers             zset    worker → end of its lease                                       while there are some
--   about               hash    worker → what it says of itself (JSON)                          as its lease
--   gateways            zset    gateway → end of its lease                                      while there are some
--   waiting             hash    gateway → what waits there (JSON)                               as its lease
--   bell                list    one element for each job that came, at most 256                 until taken
--   swept               string  somebody has just looked for those that are gone                200 ms
--   dead                stream  jobs that were given up                                         queue.dead_keep
--   job:<id>            hash    state P(ending) R(unning) D(one), class, tenant, weight, cost, gateway, worker, epoch,
--                               attempts, seq, bytes, trimmed, avoid, why, payload, final, final_data
--                                                                                               total_timeout + 2 min
--   out:<id>            stream  the answer so far: <seq>-0 → d                                  as its job
--   in:<gateway>        stream  what a gateway is to hear, about 10,000 entries: h, d           10 min after its lease
--   to:<worker>         list    what a worker is told: `cancel <id> 0`, `read <id> <seq>`         1 min
--
-- Fencing: each take, and each end of a lease, raises the job's epoch. Whoever publishes names the epoch that it was
-- given; with another one, or for a job that is gone, nothing is written and the writer is told.

local base = KEYS[1]
local classes = {'interactive', 'standard', 'batch'}

local function key(name)
  return base .. ':' .. name
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Gone is who a sweep has taken off the list, not yet who is late: after an outage of Redis all are late.
local function there(holders, who)
  return redis.call('ZSCORE', key(holders), who)
end

-- h is `id epoch seq kind`: t(aken), d(ata), e(nd), x (an error, sealed), y (an error of ours, in the clear)
local function tell(gateway, id, epoch, seq, kind, data)
  local head = id .. ' ' .. epoch .. ' ' .. seq .. ' ' .. kind
  redis.call('XADD', key('in:' .. gateway), 'MAXLEN', '~', 10000, '*', 'h', head, 'd', data)
end

local function ring()
  redis.call('LPUSH', key('bell'), '1')
  redis.call('LTRIM', key('bell'), 0, 255)
end

local function drop(id)
  redis.call('ZREM', key('running'), id)
  redis.call('DEL', key('job:' .. id), key('out:' .. id))
end

local function finish(id, kind, data, keep_ms)
  local job = key('job:' .. id)
  redis.call('ZREM', key('running'), id)
  redis.call('HSET', job, 'state', 'D', 'final', kind, 'final_data', data)
  redis.call('HDEL', job, 'payload')
  redis.call('PEXPIRE', job, keep_ms)
  redis.call('PEXPIRE', key('out:' .. id), keep_ms)
end

-- A job that ran and ended without an answer: back to the front of its class, or, after too many attempts, to the dead.
local function again(id, why, counted, avoid, limits)
  local job = key('job:' .. id)
  local found = redis.call('HMGET', job, 'gateway', 'class', 'seq', 'tenant', 'payload', 'cost',
    'weight')
  if not there('gateways', found[1]) then
    drop(id)
    return 'dropped'
  end
  redis.call('ZREM', key('running'), id)
  local attempts = redis.call('HINCRBY', job, 'attempts', counted)
  local epoch = redis.call('HINCRBY', job, 'epoch', 1)
  if attempts >= limits.attempts_max then
    redis.call('XADD', key('dead'), 'MAXLEN', '~', limits.dead_max, '*', 'id', id, 'tenant', found[4], 'class',
      found[2], 'weight', found[7], 'attempts', attempts, 'pieces', found[3], 'tokens', found[6], 'why', why,
      'payload', found[5])
    finish(id, 'y', limits.error, limits.keep_ms)
    tell(found[1], id, epoch, found[3] + 1, 'y', limits.error)
    return 'dead'
  end
  redis.call('HSET', job, 'state', 'P', 'worker', '', 'avoid', avoid, 'why', why)
  redis.call('ZADD', key('pending:' .. found[2]), -1, id)
  ring()
  return 'again'
end
