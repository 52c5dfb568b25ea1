-- A worker with free slots takes jobs. ARGV: worker, how many, lease in ms.
-- Which class is next: as in the gateway's queue (admission/fair.py), the first one, unless another was passed over too
-- often in a row. Within the class by start tag. Jobs whose gateway is gone are dropped on the way.
-- Returns a list of {id, epoch, attempts, seq, trimmed, payload}.
local worker, wanted, lease_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = now_ms()
local patience = {interactive = math.huge, standard = 4, batch = 16}
local alone = redis.call('ZCARD', key('workers')) <= 1

local function first(class)
  local pending = key('pending:' .. class)
  local at = 0
  while at < 16 do
    local id = redis.call('ZRANGE', pending, at, at)[1]
    if not id then
      return nil
    end
    local found = redis.call('HMGET', key('job:' .. id), 'state', 'gateway', 'avoid')
    if found[1] ~= 'P' then
      redis.call('ZREM', pending, id)
    elseif not there('gateways', found[2]) then
      redis.call('ZREM', pending, id)
      drop(id)
    elseif found[3] == worker and not alone then
      at = at + 1
    else
      return id
    end
  end
end

local function choose()
  local firsts, chosen, due = {}, nil, nil
  for _, class in ipairs(classes) do
    local id = first(class)
    if id then
      firsts[class] = id
      chosen = chosen or class
      if tonumber(redis.call('HGET', key('turns'), 'passed:' .. class) or '0') >= patience[class] then
        due = class
      end
    end
  end
  chosen = due or chosen
  if not chosen then
    return nil
  end
  for class, _ in pairs(firsts) do
    redis.call('HINCRBY', key('turns'), 'passed:' .. class, 1)
  end
  redis.call('HSET', key('turns'), 'passed:' .. chosen, 0)
  return firsts[chosen], chosen
end

local taken = {}
while #taken < wanted do
  local id, class = choose()
  if not id then
    break
  end
  local tag = tonumber(redis.call('ZSCORE', key('pending:' .. class), id))
  redis.call('ZREM', key('pending:' .. class), id)
  if tag >= 0 then
    redis.call('HSET', key('turns'), 'clock:' .. class, tag)
  end
  local job = key('job:' .. id)
  local epoch = redis.call('HINCRBY', job, 'epoch', 1)
  redis.call('HSET', job, 'state', 'R', 'worker', worker)
  redis.call('ZADD', key('running'), now + lease_ms, id)
  local found = redis.call('HMGET', job, 'gateway', 'attempts', 'seq', 'trimmed', 'payload', 'tenant', 'cost', 'weight')
  if epoch == 1 then
    redis.call('HINCRBYFLOAT', key('served'), class .. ' ' .. found[6], found[7] / found[8])
  end
  tell(found[1], id, epoch, found[3], 't', worker)
  taken[#taken + 1] = {id, epoch, tonumber(found[2]), tonumber(found[3]), tonumber(found[4] or 0), found[5]}
end
redis.call('PEXPIRE', key('turns'), 3600000)
redis.call('PEXPIRE', key('served'), 3600000)
return taken
