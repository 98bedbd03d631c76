-- Tells how many places of one limit and subject a gateway may use: requests at one time, over all gateways.
--
-- KEYS[1]  The value is text: bound revision, the policy in force, then for each gateway  gateway:places:expiry:sequence
-- ARGV     gateway sequence used want bound revision ttl
--   gateway   its name, hex digits
--   sequence  rises with each call of this gateway: one that comes after a later one changes nothing
--   used      requests that run there
--   want      places it wishes to have, those it has included; `used` or more
--   bound     requests at one time; revision: Unix milliseconds at which the asking gateway loaded this. The highest one stored is in force
--   ttl       milliseconds after which its places are free unless it is heard of again
-- Reply    how many places it may use, until ttl after it asked; -1: a later call was here before
--
-- What is written down for it is the larger of that and `used`: nobody gets a place that somebody still uses, though it has lost the right
-- to (it was silent for too long, or the bound was lowered). So with P what a gateway may use and F what is written down for it, P <= F, and
-- whenever a place is granted, P + the F of all others <= bound: while every gateway is heard of in time, what they use together stays
-- within the bound.
-- The clock is Redis' TIME. An expiry further away than ttl was written before that clock was set back: it is brought nearer. A value that
-- is not ours is as good as none. GET and SET are all that is called, as in token_bucket.lua: a key goes by an expiry that is over.

local key, gateway = KEYS[1], ARGV[1]
local sequence, used, want, bound = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local revision, ttl = tonumber(ARGV[6]), tonumber(ARGV[7])
local now = redis.call('TIME')
now = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)

local value = redis.pcall('GET', key)
if type(value) ~= 'string' then
    value = ''
end
local stored_bound, stored_revision, gateways = value:match('^(%d+) (%d+)([ %x:]*)$')
if stored_bound and tonumber(stored_revision) >= revision then
    bound, revision = tonumber(stored_bound), tonumber(stored_revision)
end

local others, kept = 0, ''
for name, places, expiry, last in (gateways or ''):gmatch(' (%x+):(%d+):(%d+):(%d+)') do
    if name == gateway then
        if tonumber(last) > sequence then
            return -1
        end
    elseif tonumber(expiry) > now then
        others = others + tonumber(places)
        kept = kept .. string.format(' %s:%s:%.0f:%s', name, places, math.min(tonumber(expiry), now + ttl), last)
    end
end

local granted = math.max(math.min(want, bound - others), 0)
local places = math.max(granted, used)
if places > 0 then
    kept = kept .. string.format(' %s:%.0f:%.0f:%.0f', gateway, places, now + ttl, sequence)
end
if kept ~= '' then
    redis.call('SET', key, string.format('%.0f %.0f', bound, revision) .. kept, 'PX', string.format('%.0f', ttl))
elseif value ~= '' then
    redis.call('SET', key, '', 'PX', 1)
end
return granted
