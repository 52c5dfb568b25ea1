-- One answer that outlasts its connection, for all gateways. This file stands before each of the other kept_*.lua when
-- they are loaded.
--
-- KEYS, both with the hash tag {id}; times are milliseconds of Redis' own clock:
--   1 <prefix>:kept:{<id>}:about   hash    tenant, api, background 0|1, maker, state, count (of events), until (end of the
--                                          maker's lease), late (when somebody first saw that it is over), followed (when
--                                          a reader at another gateway was last there), cancelled 0|1, shown (a response
--                                          as it is by now), status and refusal (of one that was refused)
--   2 <prefix>:kept:{<id>}:events  stream  <number of the event + 1>-0 → d, the event; the last entry → z, the state, and
--                                          nothing follows
-- Both live for kept.time from the maker's last sign on, and a lease. Of an answer that was deleted only tenant and state
-- are left, as long as that, so that its maker hears of it.
--
-- state: r(unning), w(hole), g(iven up: its maker was silent for too long), x (deleted). Only an answer that runs is
-- written to, so whoever finds it given up or deleted knows that others have been told so.

local about, events = KEYS[1], KEYS[2]

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function add(number, data)
  redis.call('XADD', events, string.format('%d-0', number + 1), 'd', data)
end

local function close(state, count, keep_ms)
  redis.call('XADD', events, string.format('%d-0', count + 1), 'z', state)
  redis.call('HSET', about, 'state', state, 'count', count)
  redis.call('PEXPIRE', about, keep_ms)
  redis.call('PEXPIRE', events, keep_ms)
end
