-- Moves used amounts from held to charged, sets what stays held, and renews the lease.
--
-- KEYS: 1 account, 2 due index of its bucket, 3 and 4 ids settled in this period and in the previous one.
-- ARGV: 1 doubles: clock offset, lifetime, tokens, money, tokens to hold, money to hold, start of the month; then the
--       seven limits of each scope (0: none). 2 second piece of the event, 3 account, 4 names of the scopes, each
--       followed by a zero byte, 5 field of the lease, 6 and 7 fields of the scopes (none, one or two).
-- Returns 0: unknown, 1: renewed, 2: ended already, 3: expired and revived.
local numbers, event, account, own_names, field, one, two = unpack(ARGV)
local offset, lifetime, tokens, money, hold_tokens, hold_money, month = read('<ddddddd', numbers)
local time = call('TIME')
local now = time[1] * 1000000 + time[2] + offset
local key = KEYS[1]
local found
if two then found = call('HMGET', key, field, 'd', one, two)
elseif one then found = call('HMGET', key, field, 'd', one)
else found = call('HMGET', key, field, 'd') end
local lease = found[1]
if not lease then
  local id = sub(field, 3)
  if call('SISMEMBER', KEYS[3], id) == 1 or call('SISMEMBER', KEYS[4], id) == 1 then return 2 end
  return 0
end

local _, held_money, granted, expired, part, tokens_before, money_before, held_tokens, names_size, first_size, last_size =
  read(lease_format, lease)
local from = lease_size + names_size
local names = sub(lease, lease_size + 1, from)
local last = event
local more_tokens, more_money = tokens - tokens_before, money - money_before
local more_held_tokens, more_held_money = hold_tokens - held_tokens, hold_money - held_money
-- A report older than the last one changes nothing.
if more_tokens < 0 or more_money < 0 then
  last = sub(lease, from + first_size + 1, from + first_size + last_size)
  tokens, money, hold_tokens, hold_money = tokens_before, money_before, held_tokens, held_money
  more_tokens, more_money, more_held_tokens, more_held_money = 0, 0, 0, 0
end

local expiry = now + lifetime
lease = pack(lease_format, expiry, hold_money, granted, 0, part, tokens, money, hold_tokens, names_size, first_size, #last)
  .. sub(lease, lease_size + 1, from + first_size) .. last .. sub(lease, from + first_size + last_size + 1)
local ours = names == own_names
local t, m, r = more_held_tokens, more_held_money, expired
if not ours then t, m, r = 0, 0, 0 end
if two then
  call('HSET', key, field, lease,
    one, charge(found[3], numbers, 57, now, month, 0, 0, more_tokens, more_money, t, m, r, read, pack),
    two, charge(found[4], numbers, 113, now, month, 0, 0, more_tokens, more_money, t, m, r, read, pack))
elseif one then
  call('HSET', key, field, lease,
    one, charge(found[3], numbers, 57, now, month, 0, 0, more_tokens, more_money, t, m, r, read, pack))
else
  call('HSET', key, field, lease)
end
if not ours then hold(key, names, more_held_tokens, more_held_money, expired) end

local due, renew, cursor, earliest = 0, 0, 0, 0
if found[2] then due, renew, cursor, earliest = read('<dddd', found[2]) end
if due == 0 or due > expiry then
  call('ZADD', KEYS[2], expiry, account)
  call('HSET', key, 'd', pack('<dddd', expiry, renew, cursor, earliest))
end
return expired == 1 and 3 or 1
