-- Tells how many places of one limit and subject a gateway may use: requests at one time, over all gateways.
--
-- KEYS[1]  The value is text: bound revision, the policy in force, then for each gateway  gateway:places:expiry:sequence  and, where it
--   was refused lately, :want:until:cut
-- ARGV     gateway sequence used had want waits bound revision ttl
--   gateway   its name, hex digits
--   sequence  rises with each call of this gateway: one that comes after a later one changes nothing
--   used      requests that run there
--   had       places it goes on using until it has the reply; `want` or fewer
--   want      places it wishes to have, those it has included; `used` or more
--   waits     1: somebody waits there for a place, 0: it wishes to keep what it has
--   bound     requests at one time; revision: Unix milliseconds at which the asking gateway loaded this. The highest one stored is in force,
--             one from the future counting as from now
--   ttl       milliseconds after which its places are free unless it is heard of again
-- Reply    how many places it may use, until ttl after it asked; -1: a later call was here before
--
-- What is written down for it is the largest of that, of `used` and of `had`: nobody gets a place that somebody still uses, though it has
-- lost the right to (it was silent for too long, or the bound was lowered), or that it takes for its own as long as it does not have the
-- reply: with its next call that is less. Of `had` no more counts than was written down before and has not expired. So with P what a gateway
-- may use and F what is written down for it, P <= F at every instant, and whenever a place is granted, P + the F of all others <= bound:
-- while every gateway is heard of in time, what they use together stays within the bound.
-- First come, first served, up to a fair part: who is refused is remembered for two seconds, and so long nobody keeps more than an equal
-- part of the bound of what the others want. What does not come out even goes round: with each call that only keeps, it is cut off, and who
-- was cut off last (`cut`, milliseconds) stands last for it.
-- The clock is Redis' TIME. An expiry further away than ttl was written before that clock was set back: it is brought nearer. A value that
-- is not ours is as good as none. GET and SET are all that is called, as in token_bucket.lua: a key goes by an expiry that is over.

local REMEMBERED_MS = 2000

local key, gateway = KEYS[1], ARGV[1]
local sequence, used, had, want, waits = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'
local bound, ttl = tonumber(ARGV[7]), tonumber(ARGV[9])
local now = redis.call('TIME')
now = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local revision = math.min(tonumber(ARGV[8]), now) -- a gateway whose clock is ahead is not newer than now

local value = redis.pcall('GET', key)
if type(value) ~= 'string' then
    value = ''
end
local stored_bound, stored_revision, gateways = value:match('^(%d+) (%d+)([ %x:]*)$')
stored_revision = stored_bound and math.min(tonumber(stored_revision), now) -- nor is what one has left here
if stored_bound and stored_revision >= revision then
    bound, revision = tonumber(stored_bound), stored_revision
end

local others, refused, kept, mine, n = 0, {}, '', {places = 0, want = 0, cut = 0}, 1
for name, places, expiry, last, more in (gateways or ''):gmatch(' (%x+):(%d+):(%d+):(%d+)([%d:]*)') do
    local other = {want = 0, cut = 0}
    local wanted, till, cut = more:match('^:(%d+):(%d+):(%d+)$')
    if till and tonumber(till) > now and tonumber(till) <= now + REMEMBERED_MS then
        other = {want = tonumber(wanted), cut = tonumber(cut)}
    else
        more = ''
    end
    expiry = math.min(tonumber(expiry), now + ttl)
    other.places = expiry > now and tonumber(places) or 0
    if name == gateway then
        if tonumber(last) > sequence then
            return -1
        end
        mine = other
        mine.more = more
    elseif other.places > 0 or other.want > 0 then
        others, n = others + other.places, n + 1
        refused[#refused + 1] = other
        kept = kept .. string.format(' %s:%.0f:%.0f:%s', name, other.places, expiry, last) .. more
    end
end

local part, missing, ahead = math.floor(bound / n), 0, 0
for _, other in ipairs(refused) do
    local lacks = math.max(math.min(other.want, math.ceil(bound / n)) - other.places, 0)
    missing = missing + lacks
    if lacks > 0 and other.cut < mine.cut then
        ahead = ahead + 1
    end
end
if waits and ahead < bound - part * n then
    part = part + 1
end
local granted = math.max(math.min(want, bound - others, math.max(part, bound - others - missing)), 0)
local places = math.max(granted, used, math.min(had, mine.places))
local more = mine.more or ''
if waits and granted == want then
    more = ''
elseif granted < want then
    more = string.format(':%.0f:%.0f:%.0f', math.max(want, mine.want), now + REMEMBERED_MS, waits and mine.cut or now)
end
if places > 0 or more ~= '' then
    kept = kept .. string.format(' %s:%.0f:%.0f:%.0f', gateway, places, now + ttl, sequence) .. more
end
if kept ~= '' then
    local px = others + places > 0 and ttl or REMEMBERED_MS
    redis.call('SET', key, string.format('%.0f %.0f', bound, revision) .. kept, 'PX', string.format('%.0f', px))
elseif value ~= '' then
    redis.call('SET', key, '', 'PX', 1)
end
return granted
