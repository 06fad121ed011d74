-- Counts a request that was refused before anything was held for it, per minute only; or denies it.
--
-- KEYS: 1 account.
-- ARGV: 1 doubles: clock offset, 0, 0, 0, 0, shadow, start of the month; then the seven limits of each scope (0: none).
--       2 and 3 fields of the scopes (one or two).
-- Returns doubles: admitted, now, 0; then the ten of each scope, charged if admitted.
local numbers, one, two = unpack(ARGV)
local offset, _, _, _, _, shadow, month = read('<ddddddd', numbers)
local time = call('TIME')
local now = time[1] * 1000000 + time[2] + offset
local key = KEYS[1]
local fits = true

-- A scope's state without and with the request.
local function look(name, from)
  local rpm, _, _, _, _, concurrent = read('<dddddd', numbers, from)
  local before = call('HGET', key, name)
  local after = charge(before, numbers, from, now, month, 1, 0, 0, 0, 0, 0, 0, read, pack)
  local active, minute = read('<dd', after, 17)
  if rpm > 0 and minute > rpm or concurrent > 0 and active + 1 > concurrent then fits = false end
  return before or string.rep('\0', 80), after
end

local state, counted = look(one, 57)
local state_two, counted_two = '', ''
if two then state_two, counted_two = look(two, 113) end
if shadow ~= 0 then fits = true end
if not fits then return pack('<ddd', 0, now, 0) .. state .. state_two end
if two then call('HSET', key, one, counted, two, counted_two)
else call('HSET', key, one, counted) end
call('EXPIRE', key, 3456000)
return pack('<ddd', 1, now, 0) .. counted .. counted_two
