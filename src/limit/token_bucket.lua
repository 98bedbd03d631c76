-- One decision over all the limits of a request that live here: all of them or none.
--
-- KEYS  one per limit and subject. The value is text: level time remainder num den burst revision
-- ARGV  the cost in tokens, then per key: num den burst revision shadow, then 1 to look only: nothing is taken
--   num/den    the rate in micro-tokens per microsecond, in lowest terms
--   burst      whole tokens
--   revision   Unix milliseconds at which the asking gateway loaded this policy; the highest one stored is in force
--   shadow     1: this limit refuses nobody
-- Reply  admitted (1 or 0), then per key: verdict (0 fits, 1 does not, 2 never can) level remainder num den burst lag
--   of the policy in force. lag: microseconds by which Redis' clock is behind the bucket's, which never goes back.
--
-- Every number is an integer below 2^53, where a Lua number is exact; the caller sees to these bounds:
--   burst * 10^6 < 2^53      den * (num + 1) < 2^53      cost <= 2^53 / 10^6
-- math.fmod is exact, and so is the quotient of an exact multiple: nothing here rounds.
-- A value that is not ours is as good as none: the bucket begins full.

local MICRO = 1000000
local DAY = 86400 * MICRO

local function divide(a, b)
    local rest = math.fmod(a, b)
    return (a - rest) / b, rest
end

local now = redis.call('TIME')
now = tonumber(now[1]) * MICRO + tonumber(now[2])
local now_ms = math.floor(now / 1000)

local function read(key)
    local value = redis.pcall('GET', key)
    if type(value) ~= 'string' then
        return nil
    end
    local level, time, remainder, num, den, burst, revision =
        value:match('^(%-?%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
    local bucket = {
        level = tonumber(level), time = tonumber(time), remainder = tonumber(remainder),
        num = tonumber(num), den = tonumber(den), burst = tonumber(burst), revision = tonumber(revision),
    }
    if not level or bucket.num < 1 or bucket.den < 1 or bucket.burst < 1 then
        return nil
    end
    return bucket
end

-- The level has grown by elapsed * num / den, split so that no product leaves the exact numbers.
local function advance(bucket)
    local full = bucket.burst * MICRO
    if bucket.time > now + DAY then
        bucket.time = now -- no step back but the end of a clock that was wrong: else this bucket would stand still until then
    end
    if now > bucket.time then
        local periods, rest = divide(now - bucket.time, bucket.den)
        bucket.time = now
        if periods * bucket.num < full - bucket.level then
            local grown, remainder = divide(rest * bucket.num + bucket.remainder, bucket.den)
            bucket.level = bucket.level + periods * bucket.num + grown
            bucket.remainder = remainder
        else
            bucket.level = full
        end
    end
    if bucket.level >= full then
        bucket.level, bucket.remainder = full, 0
    end
end

-- A newer policy: what accrued until now was at the old rate; then the smaller of the level and the new burst.
local function adopt(bucket, num, den, burst, revision)
    if revision <= bucket.revision then
        return false
    end
    bucket.revision = revision
    if bucket.num == num and bucket.den == den and bucket.burst == burst then
        return false
    end
    if bucket.level >= burst * MICRO then
        bucket.level, bucket.remainder = burst * MICRO, 0
    else
        local parts = bucket.remainder * den -- the same fraction in the new rate's parts, rounded down
        bucket.remainder = parts < 2 ^ 53 and divide(parts, bucket.den) or 0
    end
    bucket.num, bucket.den, bucket.burst = num, den, burst
    return true
end

local function write(key, bucket)
    local to_full = (bucket.burst * MICRO - bucket.level) / bucket.num * bucket.den / 1000
    local ttl = math.min(math.ceil(to_full) + (bucket.time - now) / 1000 + 1000, 2 ^ 42)
    redis.call('SET', key, string.format('%.0f %.0f %.0f %.0f %.0f %.0f %.0f', bucket.level, bucket.time, bucket.remainder,
        bucket.num, bucket.den, bucket.burst, bucket.revision), 'PX', string.format('%.0f', ttl))
end

local cost = tonumber(ARGV[1])
local look_only = ARGV[2 + #KEYS * 5] == '1'
local buckets, admitted = {}, 1

for i, key in ipairs(KEYS) do
    local at = 2 + (i - 1) * 5
    local num, den, burst = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    local revision = math.min(tonumber(ARGV[at + 3]), now_ms) -- a gateway whose clock is ahead is not newer than now
    local bucket = read(key)
    if bucket then
        advance(bucket)
        bucket.changed = adopt(bucket, num, den, burst, revision)
    else
        bucket = {level = burst * MICRO, time = now, remainder = 0, num = num, den = den, burst = burst, revision = revision}
    end
    bucket.verdict = 0
    if cost > bucket.burst then
        bucket.verdict = 2
    elseif bucket.level < cost * MICRO then
        bucket.verdict = 1
    end
    if bucket.verdict ~= 0 and ARGV[at + 4] ~= '1' then
        admitted = 0
    end
    buckets[i] = bucket
end

local reply = {admitted}
for i, key in ipairs(KEYS) do
    local bucket = buckets[i]
    local taken = admitted == 1 and bucket.verdict == 0 and not look_only
    if taken then
        bucket.level = bucket.level - cost * MICRO
    end
    if taken or bucket.changed then
        write(key, bucket)
    end
    for _, number in ipairs({bucket.verdict, bucket.level, bucket.remainder, bucket.num, bucket.den, bucket.burst, bucket.time - now}) do
        reply[#reply + 1] = number
    end
end
return reply
