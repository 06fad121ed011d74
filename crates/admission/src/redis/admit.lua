-- Admits a request against all levels of its scopes, or changes none.
--
-- KEYS: 1 account, 2 due index of its bucket.
-- ARGV: 1 doubles: clock offset, lifetime, tokens, money, least money, shadow, start of the month; then the seven
--       limits of each scope (0: none). 2 the lease without its first three doubles, 3 account, 4 field of the lease,
--       5 and 6 fields of the scopes (none, one or two).
-- Returns doubles: admitted, now, money granted; then the ten of each scope, charged if admitted.
--
-- The code for each scope is written out twice, and functions take everything as arguments: tables and captured
-- variables cost more time than all of the arithmetic.
local call, pack, read = redis.call, struct.pack, struct.unpack
local numbers, rest, account, field, one, two = unpack(ARGV)
local offset, lifetime, tokens, money, least, shadow, month = read('<ddddddd', numbers)
local time = call('TIME')
local now = time[1] * 1000000 + time[2] + offset
local key = KEYS[1]
local found
if two then found = call('HMGET', key, field, 'd', one, two)
elseif one then found = call('HMGET', key, field, 'd', one)
else found = call('HMGET', key, field, 'd') end

-- Whether the request fits a scope, the money that it may hold, and the scope's state with the request in it, except
-- for that money.
local function decide(state, numbers, from, now, month, tokens, granted, read)
  local rpm, rpd, requests, tpm, tpd, concurrent, budget = read('<ddddddd', numbers, from)
  local at, held, active, minute, day, total, tokens_minute, tokens_day, spent, reserved = now, 0, 0, 0, 0, 0, 0, 0, 0, 0
  if state then
    at, held, active, minute, day, total, tokens_minute, tokens_day, spent, reserved = read('<dddddddddd', state)
  end
  if at < month and now >= month then spent = 0 end
  local passed = now - at
  if passed > 0 then at = now else passed = 0 end
  local fits = true
  if rpm > 0 then
    minute = minute - passed * rpm / 60e6
    minute = minute > 0 and minute + 1 or 1
    if minute > rpm then fits = false end
  else minute = 0 end
  if rpd > 0 then
    day = day - passed * rpd / 86400e6
    day = day > 0 and day + 1 or 1
    if day > rpd then fits = false end
  else day = 0 end
  total, active, held = total + 1, active + 1, held + tokens
  if requests > 0 and total > requests then fits = false end
  if tpm > 0 then
    tokens_minute = tokens_minute - passed * tpm / 60e6
    if tokens_minute < 0 then tokens_minute = 0 end
    if tokens_minute + held > tpm then fits = false end
  else tokens_minute = 0 end
  if tpd > 0 then
    tokens_day = tokens_day - passed * tpd / 86400e6
    if tokens_day < 0 then tokens_day = 0 end
    if tokens_day + held > tpd then fits = false end
  else tokens_day = 0 end
  if concurrent > 0 and active > concurrent then fits = false end
  if budget > 0 then
    local left = budget - spent - reserved
    if left < granted then granted = left end
  end
  return fits, granted, at, held, active, minute, day, total, tokens_minute, tokens_day, spent, reserved
end

local fits, granted, admitted = true, money, 0
local at, held, active, minute, day, total, tokens_minute, tokens_day, spent, reserved
local fits_two, at_two, held_two, active_two, minute_two, day_two, total_two, tokens_minute_two, tokens_day_two, spent_two,
  reserved_two
if found[1] then
  local _
  _, _, granted = read('<ddd', found[1])
  fits, admitted = false, 1
else
  if one then
    fits, granted, at, held, active, minute, day, total, tokens_minute, tokens_day, spent, reserved =
      decide(found[3], numbers, 57, now, month, tokens, granted, read)
  end
  if two then
    fits_two, granted, at_two, held_two, active_two, minute_two, day_two, total_two, tokens_minute_two, tokens_day_two,
      spent_two, reserved_two = decide(found[4], numbers, 113, now, month, tokens, granted, read)
    fits = fits and fits_two
  end
  if shadow ~= 0 then
    fits, granted = true, money
  elseif granted < least then
    fits = false
  end
end
if not fits then
  local nothing = string.rep('\0', 80)
  return pack('<ddd', admitted, now, admitted == 1 and granted or 0)
    .. (one and (found[3] or nothing) or '') .. (two and (found[4] or nothing) or '')
end

local expiry = now + lifetime
local due, renew, cursor, earliest = 0, 0, 0, 0
if found[2] then due, renew, cursor, earliest = read('<dddd', found[2]) end
local lease = pack('<ddd', expiry, granted, granted) .. rest
-- String operations cost by length, so each string is built at once.
local state, state_two = '', ''
if one then
  state = pack('<dddddddddd', at, held, active, minute, day, total, tokens_minute, tokens_day, spent, reserved + granted)
end
if two then
  state_two = pack('<dddddddddd', at_two, held_two, active_two, minute_two, day_two, total_two, tokens_minute_two,
    tokens_day_two, spent_two, reserved_two + granted)
  call('HSET', key, field, lease, one, state, two, state_two)
elseif one then
  call('HSET', key, field, lease, one, state)
else
  call('HSET', key, field, lease)
end
if due == 0 or due > expiry or renew <= now then
  if due == 0 or due > expiry then
    due = expiry
    call('ZADD', KEYS[2], due, account)
  end
  if renew <= now then
    renew = now + 86400e6
    -- 40 days: longer than any window, so that no level expires while it counts.
    call('EXPIRE', key, 3456000)
  end
  call('HSET', key, 'd', pack('<dddd', due, renew, cursor, earliest))
end
return pack('<ddd', 1, now, granted) .. state .. state_two
