-- A worker writes what came of its jobs. ARGV: most bytes of an answer, how long a finished one is kept in ms, then for
-- each piece: id, epoch, seq, kind, data. Kinds: d(ata), e(nd, with the last data), x (an error, which ends the job).
-- Returns for each piece 1, or 0 where the job is no longer this worker's: its lease ran out, or nobody waits for it.
local bytes_max, keep_ms = tonumber(ARGV[1]), ARGV[2]
local told = {}
for at = 3, #ARGV, 5 do
  local id, epoch, seq, kind, data = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3], ARGV[at + 4]
  local job, out = key('job:' .. id), key('out:' .. id)
  local found = redis.call('HMGET', job, 'state', 'epoch', 'seq', 'gateway')
  if found[3] and found[2] == epoch and seq <= tonumber(found[3]) then
    told[#told + 1] = 1 -- written before; the answer to that got lost
  elseif found[1] ~= 'R' or found[2] ~= epoch then
    told[#told + 1] = 0
  else
    if kind ~= 'x' and data ~= '' then
      redis.call('XADD', out, seq .. '-0', 'd', data)
      if seq == 1 then
        redis.call('PEXPIRE', out, redis.call('PTTL', job))
      end
      if redis.call('HINCRBY', job, 'bytes', #data) > bytes_max then
        redis.call('XTRIM', out, 'MAXLEN', math.floor(redis.call('XLEN', out) / 2))
        redis.call('HSET', job, 'trimmed', 1, 'bytes', math.floor(bytes_max / 2))
      end
    end
    redis.call('HSET', job, 'seq', seq)
    if kind ~= 'd' then
      finish(id, kind, kind == 'x' and data or '', keep_ms)
    end
    tell(found[4], id, epoch, seq, kind, data)
    told[#told + 1] = 1
  end
end
return told
