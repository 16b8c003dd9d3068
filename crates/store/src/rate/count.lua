-- Counts a call under all of its limits, or under none. The clock is this server's own.
--
-- KEYS: one for each limit. ARGV: 'look', 'take' or 'must', the call's id, how many slices a window has, and for each
-- limit 'calls' or 'places', how many are allowed, and the length of a slice or of a lease in milliseconds.
-- Answers {0, 0}, or the limit with the longest wait and that, in milliseconds.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local how, id, slices = ARGV[1], ARGV[2], tonumber(ARGV[3])

local function limit(i)
  return ARGV[3 * i + 1], tonumber(ARGV[3 * i + 2]), tonumber(ARGV[3 * i + 3])
end

local function wait_for_call(key, most, size)
  local first, counted, kept, gone = math.floor(now / size) - slices, 0, {}, {}
  local all = redis.call('HGETALL', key)
  for f = 1, #all, 2 do
    local slice, calls = tonumber(all[f]), tonumber(all[f + 1])
    if slice < first then
      gone[#gone + 1] = all[f]
    else
      kept[#kept + 1] = { slice, calls }
      counted = counted + calls
    end
  end
  if how ~= 'look' and #gone > 0 then
    redis.call('HDEL', key, unpack(gone))
  end
  local over = counted - most + 1
  if over <= 0 then
    return 0
  end
  table.sort(kept, function(a, b) return a[1] < b[1] end)
  for _, one in ipairs(kept) do
    over = over - one[2]
    if over <= 0 then
      return (one[1] + slices + 1) * size - now
    end
  end
  return slices * size
end

local full, longest = 0, 0
for i, key in ipairs(KEYS) do
  local kind, most, size = limit(i)
  local wait = 0
  if kind == 'calls' then
    wait = wait_for_call(key, most, size)
  elseif redis.call('ZCOUNT', key, '(' .. now, '+inf') >= most then
    wait = 1000
  end
  if wait > longest then
    full, longest = i, wait
  end
end
if how == 'look' or (how == 'take' and full > 0) then
  return { full, longest }
end
for i, key in ipairs(KEYS) do
  local kind, _, size = limit(i)
  if kind == 'calls' then
    redis.call('HINCRBY', key, string.format('%.0f', math.floor(now / size)), 1)
    redis.call('PEXPIRE', key, (slices + 2) * size)
  else
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    redis.call('ZADD', key, now + size, id)
    redis.call('PEXPIRE', key, size)
  end
end
return { 0, 0 }
