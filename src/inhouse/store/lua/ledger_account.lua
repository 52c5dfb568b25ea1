-- The account of one scope: what `store/ledger_account.py` does with it, said again for Redis. A prelude: the other
-- ledger scripts are this text and their own.
--
-- KEYS, three for each scope, all with the hash tag {scope}, so that those of one scope lie in one slot:
--   <prefix>:account:{<scope>}  string  msgpack of the account; lives 65 days from its last change
--   <prefix>:leases:{<scope>}   hash    id of a lease → msgpack of its record; lives 65 days from its last change
--   <prefix>:expiry:{<scope>}   zset    id of a lease → microsecond (of the server's clock) at which it is seen to
--
-- Account: {requests window, used in it, tokens window, used in it, open requests, open tokens, days, months, leased
-- requests}; a window is {time, amount, time, amount, …}; a day or month {number, tokens used, held, money used, held}.
-- Amounts: {requests, open, tokens, money}. Record: {seq, day, month, charged, spent, freed, granted}.
-- Times are microseconds; all numbers are whole and below 2^53, which is as far as Lua's are exact.

local SECOND, MINUTE, PERIODS_KEPT = 1000000, 60000000, 8
local KEYS_KEPT_MS = 65 * 86400000
local REQUESTS, OPEN, TOKENS, MONEY = 1, 2, 3, 4
local RECLAIMED_MAX = 64

local function text(number) return string.format('%.0f', number) end

local function clock(given)
  if given >= 0 then return given end
  local time = redis.call('TIME')
  return tonumber(time[1]) * SECOND + tonumber(time[2])
end

local function append(window, at, amount)
  local last = #window - 1
  if last > 0 and (window[last] >= at or math.floor(window[last] / SECOND) == math.floor(at / SECOND)) then
    if at > window[last] then window[last] = at end
    window[last + 1] = window[last + 1] + amount
  else
    window[last + 2] = at
    window[last + 3] = amount
  end
end

local function advance_window(window, now)
  local count = #window
  if count == 0 then return 0 end
  if window[count - 1] > now + MINUTE then
    local moved = 0
    while count > 0 and window[count - 1] > now do
      moved = moved + window[count]
      window[count], window[count - 1] = nil, nil
      count = count - 2
    end
    append(window, now, moved)
    count = #window
  end
  local gone, first = 0, 1
  while first < count and window[first] + MINUTE <= now do
    gone = gone + window[first + 1]
    first = first + 2
  end
  if first > 1 then
    for index = first, count do window[index - first + 1] = window[index] end
    for index = count - first + 2, count do window[index] = nil end
  end
  return gone
end

local function period(periods, number)
  for index = #periods, 1, -1 do
    if periods[index][1] == number then
      local found = table.remove(periods, index)
      periods[#periods + 1] = found
      return found
    end
  end
  if #periods >= PERIODS_KEPT then
    for index = 1, #periods do
      if periods[index][3] == 0 and periods[index][5] == 0 then
        table.remove(periods, index)
        break
      end
    end
  end
  local made = {number, 0, 0, 0, 0}
  periods[#periods + 1] = made
  return made
end

local function load(key, now)
  local raw = redis.call('GET', key)
  local account = raw and cmsgpack.unpack(raw) or {{}, 0, {}, 0, 0, 0, {}, {}, 0}
  account[2] = account[2] - advance_window(account[1], now)
  account[4] = account[4] - advance_window(account[3], now)
  return account
end

local function both(account, day, month)
  return {period(account[7], day), period(account[8], month)}
end

local function hold(account, amounts, day, month)
  account[9] = account[9] + amounts[REQUESTS]
  account[5] = account[5] + amounts[OPEN]
  account[6] = account[6] + amounts[TOKENS]
  for _, one in ipairs(both(account, day, month)) do
    one[3] = one[3] + amounts[TOKENS]
    one[5] = one[5] + amounts[MONEY]
  end
end

local function settle(account, spent, freed, day, month, at)
  account[9] = account[9] - spent[REQUESTS] - freed[REQUESTS]
  account[5] = account[5] - freed[OPEN]
  account[6] = account[6] - spent[TOKENS] - freed[TOKENS]
  if spent[REQUESTS] > 0 then
    append(account[1], at, spent[REQUESTS])
    account[2] = account[2] + spent[REQUESTS]
  end
  if spent[TOKENS] > 0 then
    append(account[3], at, spent[TOKENS])
    account[4] = account[4] + spent[TOKENS]
  end
  for _, one in ipairs(both(account, day, month)) do
    one[3] = one[3] - spent[TOKENS] - freed[TOKENS]
    one[5] = one[5] - spent[MONEY] - freed[MONEY]
    one[2] = one[2] + spent[TOKENS]
    one[4] = one[4] + spent[MONEY]
  end
end

-- A lease that was charged when its gateway was silent is held again: of what windows count, its minute takes it away.
local function revive(account, amounts, day, month)
  account[9] = account[9] + amounts[REQUESTS]
  account[5] = account[5] + amounts[OPEN]
  account[6] = account[6] + amounts[TOKENS]
  for _, one in ipairs(both(account, day, month)) do
    one[2] = math.max(0, one[2] - amounts[TOKENS])
    one[4] = math.max(0, one[4] - amounts[MONEY])
    one[3] = one[3] + amounts[TOKENS]
    one[5] = one[5] + amounts[MONEY]
  end
end

local function held(record)
  local left = {}
  for index = 1, 4 do left[index] = record[7][index] - record[5][index] - record[6][index] end
  return left
end

local function is_none(amounts)
  return amounts[1] == 0 and amounts[2] == 0 and amounts[3] == 0 and amounts[4] == 0
end

-- Charges in full what the leases hold that nobody has renewed in time, and forgets those that were settled long ago.
local function reclaim(account, leases, expiry, own, now, keep)
  local charged = 0
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', expiry, '-inf', text(now), 'LIMIT', 0, RECLAIMED_MAX)) do
    if id ~= own then
      local raw = redis.call('HGET', leases, id)
      local record = raw and cmsgpack.unpack(raw)
      local left = record and record[4] == 0 and held(record)
      if left and not is_none(left) then
        settle(account, {left[REQUESTS], 0, left[TOKENS], left[MONEY]}, {0, left[OPEN], 0, 0}, record[2], record[3], now)
        record[4] = 1
        charged = charged + 1
        redis.call('HSET', leases, id, cmsgpack.pack(record))
        redis.call('ZADD', expiry, text(now + keep), id)
      else
        redis.call('HDEL', leases, id)
        redis.call('ZREM', expiry, id)
      end
    end
  end
  return charged
end

local function save(key, account)
  local packed = cmsgpack.pack(account)
  redis.call('SET', key, packed, 'PX', KEYS_KEPT_MS)
  return packed
end
