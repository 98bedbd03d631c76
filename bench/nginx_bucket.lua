-- A token bucket in Redis, asked about every request: RESP over the module's own sockets, kept alive; the script by its digest.
local Bucket = {}
Bucket.__index = Bucket

local RATE, BURST = 1000000, 1000000

local SCRIPT = [[
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local kept = redis.call('HMGET', KEYS[1], 'level', 'at')
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local level = math.min(burst, (tonumber(kept[1]) or burst) + (now - (tonumber(kept[2]) or now)) * rate / 1000000)
if level < 1 then return 0 end
redis.call('HSET', KEYS[1], 'level', level - 1, 'at', now)
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
return 1]]

local function command(socket, ...)
    local words = {...}
    local parts = {"*", #words, "\r\n"}
    for _, word in ipairs(words) do
        word = tostring(word)
        table.insert(parts, "$" .. #word .. "\r\n" .. word .. "\r\n")
    end
    assert(socket:send(table.concat(parts)))
    return assert(socket:receive("*l"))
end

function Bucket.new(port)
    return setmetatable({port = port}, Bucket)
end

function Bucket:ask(socket, key)
    if self.digest then
        local reply = command(socket, "EVALSHA", self.digest, 1, key, RATE, BURST)
        if reply:sub(1, 9) ~= "-NOSCRIPT" then
            return reply
        end
    end
    assert(command(socket, "SCRIPT", "LOAD", SCRIPT) == "$40")
    self.digest = assert(socket:receive("*l"))
    return command(socket, "EVALSHA", self.digest, 1, key, RATE, BURST)
end

function Bucket:admit(who)
    local socket = ngx.socket.tcp()
    socket:settimeout(1000)
    assert(socket:connect("127.0.0.1", self.port))
    local reply = self:ask(socket, "bucket:" .. who)
    assert(socket:setkeepalive(60000, 256))
    if reply == ":0" then
        return ngx.exit(429)
    end
    assert(reply == ":1", reply)
end

return Bucket
