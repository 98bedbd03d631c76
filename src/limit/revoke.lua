-- Writes down which API keys are revoked, for every gateway that shares this Redis.
--
-- KEYS[1]  a sorted set. Its members are ids, with a ! behind where what the key's callers have open ends too; its scores only ever grow, so
--          that whoever has read up to one score finds the news behind it. They are about the time in microseconds.
-- ARGV     the most members to keep, then members
-- Reply    how many were news

local now = redis.call('TIME')
local score = tonumber(now[1]) * 1000000 + tonumber(now[2])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
if last and tonumber(last) > score and tonumber(last) < 2 ^ 53 - 1000 then
    score = tonumber(last)
end

local news = 0
for i = 2, #ARGV do
    if not redis.call('ZSCORE', KEYS[1], ARGV[i]) then
        news = news + 1
        redis.call('ZADD', KEYS[1], string.format('%.0f', score + news), ARGV[i])
    end
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[1]))
return news
