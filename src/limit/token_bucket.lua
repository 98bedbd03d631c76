-- Takes, leases and settlements of the buckets that live here, in one step: all of a request or none of it.
--
-- KEYS  one per bucket. The value is text: level time remainder num den burst revision, then for each of the last 16 processes that
--   settled, the latest first: source:sequence
-- ARGV  one per bucket, then 1 to look only: nothing is taken
--   num den burst revision cost[ s][ l<wish>:<T>][ p<delta>:<source>:<sequence>:<at>:<again>]
--   num/den    the rate in micro-tokens per microsecond, in lowest terms; 0/1: unknown, what is stored is in force
--   burst      whole tokens
--   revision   Unix milliseconds at which the asking gateway loaded this policy; the highest one stored is in force
--   cost       whole tokens
--   s          a shadow limit: it refuses nobody
--   l          a lease: so many whole tokens are wished for ahead, each to be used at most T microseconds after this moment
--   p          a settlement of delta whole tokens, whatever becomes of the rest: more than 0 pays back, less charges, into debt if need be.
--              Counted once for each source (hex digits) and sequence, which rises. at: not 0, what is paid back was taken at that instant
--              and nothing came of it. again: 1, it was sent before and nobody knows whether it arrived
-- Reply  admitted (1 or 0), now, then text per bucket: verdict (0 fits, 1 does not, 2 never can) level remainder lag leased, and num den
--   burst where another policy than the one asked with is in force. lag: microseconds by which Redis' clock is behind the bucket's, which
--   never goes back.
--
-- Every number is an integer below 2^53, where a Lua number is exact; the caller sees to these bounds:
--   burst, cost, wish and delta times 10^6 <= 2^52      den * (num + 1) < 2^53
-- math.fmod is exact, and so is the quotient of an exact multiple: nothing here rounds. What may grow beyond is only compared.
-- A value that is not ours is as good as none: the bucket begins full.
--
-- Admissions in every interval [s, t] stay within burst + rate * (t - s), leases included: a lease is granted from a level that was first
-- brought down to burst - rate * T. Of the leases used in [s, t] and granted before s let d be the instant of the first: d >= s - T, so
-- everything admitted in [s, t] was taken in [d, t], and that is at most burst - rate * T + rate * (t - d) <= burst + rate * (t - s).
--
-- A key stays until its bucket is full, and six minutes where sources are kept: a settlement is repeated for five.

local MICRO = 1000000
local DAY = 86400 * MICRO
local EXACT = 2 ^ 53
local DEBT_MAX = 2 ^ 52
local SOURCES_MAX = 16
local SOURCES_MS = 360000

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
    local level, time, remainder, num, den, burst, revision, sources =
        value:match('^(%-?%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)([ %x:]*)$')
    if not level then
        return nil
    end
    local bucket = {
        level = tonumber(level), time = tonumber(time), remainder = tonumber(remainder),
        num = tonumber(num), den = tonumber(den), burst = tonumber(burst), revision = tonumber(revision), sources = sources,
    }
    local full = bucket.burst * MICRO
    if bucket.num < 1 or bucket.remainder >= bucket.den or bucket.den * (bucket.num + 1) >= EXACT or bucket.burst < 1 or full > DEBT_MAX or
        bucket.level > full or bucket.level < -DEBT_MAX or bucket.time >= EXACT or bucket.revision >= EXACT then
        return nil
    end
    return bucket
end

-- elapsed * num / den and what is left over, split so that no product leaves the exact numbers.
local function accrued(bucket, elapsed, remainder)
    local periods, rest = divide(elapsed, bucket.den)
    local grown, left = divide(rest * bucket.num + remainder, bucket.den)
    return periods * bucket.num + grown, left
end

local function accrued_at_most(bucket, elapsed)
    local grown, left = accrued(bucket, elapsed, 0)
    return left > 0 and grown + 1 or grown
end

local function cap(bucket, level)
    if bucket.level >= level then
        bucket.level, bucket.remainder = level, 0
    end
end

local function advance(bucket)
    local full = bucket.burst * MICRO
    if bucket.time > now + DAY then
        bucket.time = now -- no step back but the end of a clock that was wrong: else this bucket would stand still until then
    end
    if now > bucket.time then
        local grown, left = accrued(bucket, now - bucket.time, bucket.remainder)
        bucket.time = now
        if grown < full - bucket.level then
            bucket.level, bucket.remainder = bucket.level + grown, left
        else
            bucket.level = full
        end
    end
    cap(bucket, full)
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
    if bucket.level < burst * MICRO then
        local parts = bucket.remainder * den -- the same fraction in the new rate's parts, rounded down
        bucket.remainder = parts < EXACT and divide(parts, bucket.den) or 0
    end
    bucket.num, bucket.den, bucket.burst = num, den, burst
    cap(bucket, burst * MICRO)
    return true
end

local function write(key, bucket)
    local to_full = (bucket.burst * MICRO - bucket.level) / bucket.num * bucket.den / 1000
    local ttl = math.min(math.ceil(to_full) + (bucket.time - now) / 1000 + 1000, 2 ^ 42)
    if bucket.sources ~= '' then
        ttl = math.max(ttl, SOURCES_MS)
    end
    redis.call('SET', key, string.format('%.0f %.0f %.0f %.0f %.0f %.0f %.0f', bucket.level, bucket.time, bucket.remainder,
        bucket.num, bucket.den, bucket.burst, bucket.revision) .. bucket.sources, 'PX', string.format('%.0f', ttl))
end

-- Whether this settlement still counts; from then on it does not. What was sent before, by a source that others may have displaced, does
-- not either: at most once comes first.
local function first_time(bucket, source, sequence, again)
    local last = bucket.sources:match(' ' .. source .. ':(%d+)')
    if last and tonumber(last) >= tonumber(sequence) then
        return false
    end
    local kept, n = ' ' .. source .. ':' .. sequence, 1
    for entry, other in bucket.sources:gmatch('( (%x+):%d+)') do
        if other ~= source then
            n = n + 1
            kept = n <= SOURCES_MAX and kept .. entry or kept
        end
    end
    if again and n > SOURCES_MAX then
        return false
    end
    bucket.sources = kept
    return true
end

-- Without a take that nothing came of, the bucket may have been full ever since, and then what has accrued since would not have: that
-- much less is paid back, and nothing where the policy has changed.
local function settle(bucket, delta, at, same_policy)
    local micro = delta * MICRO
    if micro > 0 and at > 0 then
        micro = same_policy and math.max(micro - accrued_at_most(bucket, math.max(bucket.time - at, 0)), 0) or 0
    end
    bucket.level = math.max(bucket.level + micro, -DEBT_MAX)
    cap(bucket, bucket.burst * MICRO)
end

local function lease(bucket, wish, period)
    local full, reserve = bucket.burst * MICRO, accrued_at_most(bucket, period)
    local there = divide(math.max(math.min(bucket.level, full - reserve), 0), MICRO)
    local granted = math.min(wish, there)
    if full < 2 * reserve or granted < 1 then
        return 0
    end
    cap(bucket, full - reserve)
    bucket.level = bucket.level - granted * MICRO
    return granted
end

local look_only = ARGV[#KEYS + 1] == '1'
local parts, admitted = {}, 1

for i, key in ipairs(KEYS) do
    local num, den, burst, revision, cost, more = ARGV[i]:match('^(%d+) (%d+) (%d+) (%d+) (%d+)(.*)$')
    num, den, burst, cost = tonumber(num), tonumber(den), tonumber(burst), tonumber(cost)
    revision = math.min(tonumber(revision), now_ms) -- a gateway whose clock is ahead is not newer than now
    local part = {verdict = 0, leased = 0, cost = cost, more = more}
    local bucket = read(key)
    if bucket then
        advance(bucket)
        part.changed = num > 0 and adopt(bucket, num, den, burst, revision)
    elseif num > 0 then
        bucket = {level = burst * MICRO, time = now, remainder = 0, num = num, den = den, burst = burst, revision = revision, sources = ''}
    end
    if bucket then
        part.same = bucket.num == num and bucket.den == den and bucket.burst == burst
        local delta, source, sequence, at, again = more:match(' p(%-?%d+):(%x+):(%d+):(%d+):(%d)')
        if delta and first_time(bucket, source, sequence, again == '1') then
            settle(bucket, tonumber(delta), tonumber(at), part.same and not part.changed)
            part.changed = true
        end
        if cost > bucket.burst then
            part.verdict = 2
        elseif cost > 0 and bucket.level < cost * MICRO then
            part.verdict = 1
        end
        if part.verdict ~= 0 and not more:find(' s', 1, true) then
            admitted = 0
        end
        part.bucket = bucket
    end
    parts[i] = part
end

local function take(part)
    local bucket = part.bucket
    if part.verdict == 0 and part.cost > 0 then
        bucket.level = bucket.level - part.cost * MICRO
        part.changed = true
    end
    local wish, period = part.more:match(' l(%d+):(%d+)')
    if wish then
        part.leased = lease(bucket, tonumber(wish), tonumber(period))
        part.changed = part.changed or part.leased > 0
    end
end

local reply = {admitted, now}
for i, key in ipairs(KEYS) do
    local part = parts[i]
    local bucket = part.bucket
    if not bucket then
        reply[#reply + 1] = '0 0 0 0 0'
    else
        if admitted == 1 and not look_only then
            take(part)
        end
        if part.changed then
            write(key, bucket)
        end
        local text = string.format('%d %.0f %.0f %.0f %.0f', part.verdict, bucket.level, bucket.remainder, bucket.time - now, part.leased)
        if not part.same then
            text = text .. string.format(' %.0f %.0f %.0f', bucket.num, bucket.den, bucket.burst)
        end
        reply[#reply + 1] = text
    end
end
return reply
