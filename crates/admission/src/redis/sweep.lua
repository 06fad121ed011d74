-- Ends expired leases of a bucket, within the bounds of one call.
--
-- KEYS: 1 due index, 2 outbox, 3 and 4 ids settled in this period and in the previous one, 5 start of this period.
--       The accounts in the index are read and written too: their keys have the same hash tag, so the same slot.
-- ARGV: 1 prefix of the accounts' keys, 2 clock offset, 3 leases to end at most, 4 fields to read at most.
-- Returns how many leases ended.
local time = call('TIME')
local now = time[1] * 1000000 + time[2] + tonumber(ARGV[2])
local ends, looks = tonumber(ARGV[3]), tonumber(ARGV[4])
local ended = 0

-- Ids of settled requests are remembered for one to two periods of ten minutes.
local since = tonumber(call('GET', KEYS[5]))
if not since then
  call('SET', KEYS[5], string.format('%.0f', now))
elseif math.abs(now - since) >= 600e6 then
  call('SET', KEYS[5], string.format('%.0f', now))
  call('UNLINK', KEYS[4])
  if call('EXISTS', KEYS[3]) == 1 then call('RENAME', KEYS[3], KEYS[4]) end
end

-- Expires a due lease, or drops one that expired long ago. Returns when it is due next.
local function expire(key, field, lease)
  local due, held_money, granted, expired, part, tokens, money, held_tokens, names_size, first_size, last_size =
    read(lease_format, lease)
  if due > now then return due end
  if expired == 1 then
    call('HDEL', key, field)
    return nil
  end
  local names = sub(lease, lease_size + 1, lease_size + names_size)
  hold(key, names, -held_tokens, -held_money, -1)
  local id = sub(field, 3)
  if call('SISMEMBER', KEYS[3], id) == 1 or call('SISMEMBER', KEYS[4], id) == 1 then
    -- A repeated admission that arrived after its own end, which has written the event.
    call('HDEL', key, field)
    return nil
  end
  local from = lease_size + names_size
  local first = sub(lease, from + 1, from + first_size)
  local last = sub(lease, from + first_size + 1, from + first_size + last_size)
  write(KEYS[2], first .. last, part, first, sub(lease, from + first_size + last_size + 1))
  -- Kept for an hour, in case its end arrives late.
  due = now + 3600e6
  call('HSET', key, field, pack(lease_format, due, 0, granted, 1, part + 1, tokens, money, 0, #names, #first, #last)
    .. names .. first .. last .. last)
  ended = ended + 1
  return due
end

-- Reads the leases of an account, from where the last visit stopped.
local function visit(account)
  local key = ARGV[1] .. account
  -- A key of the wrong type must not block other accounts: it is removed from the index.
  local meta = redis.pcall('HGET', key, 'd')
  if not meta or type(meta) == 'table' or #meta ~= 32 then return call('ZREM', KEYS[1], account) end
  local _, renew, cursor, earliest = read('<dddd', meta)
  local resumed, next = cursor ~= 0, string.format('%.0f', cursor)
  repeat
    local page = call('HSCAN', key, next, 'MATCH', 'l:*', 'COUNT', 256)
    next = page[1]
    looks = looks - 256
    for i = 1, #page[2], 2 do
      -- Nor must a lease that cannot be read. After any error, including full memory, it is retried a minute later.
      local read_well, due = pcall(expire, key, page[2][i], page[2][i + 1])
      if not read_well then due = now + 60e6 end
      if due and (earliest == 0 or due < earliest) then earliest = due end
    end
  until next == '0' or looks <= 0 or ended >= ends
  if next ~= '0' then
    call('ZADD', KEYS[1], now, account)
    call('HSET', key, 'd', pack('<dddd', now, renew, tonumber(next), earliest))
    return
  end
  -- Leases added during a visit of several calls may have been missed: visit again soon.
  if resumed and (earliest == 0 or earliest > now + 30e6) then earliest = now + 30e6 end
  if earliest == 0 then
    call('ZREM', KEYS[1], account)
  else
    call('ZADD', KEYS[1], earliest, account)
  end
  call('HSET', key, 'd', pack('<dddd', earliest, renew, 0, 0))
end

while looks > 0 and ended < ends do
  local first = call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  if not first[1] or tonumber(first[2]) > now then break end
  visit(first[1])
  looks = looks - 16
end
return ended
