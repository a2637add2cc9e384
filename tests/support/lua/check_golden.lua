-- The Lua client's bytes against the golden vectors: lua check_golden.lua CLIENT VECTORS. Prints the
-- name of each check as it passes; ends with an error at the first that does not.

local understudy = dofile(arg[1])
local vectors = dofile(arg[2])

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b and math.type(a) == math.type(b) end
  for key, value in pairs(a) do if not same(value, b[key]) then return false end end
  for key in pairs(b) do if a[key] == nil then return false end end
  return true
end

-- Whether what was got has all that was expected: a reader may keep keys that it does not know.
local function holds(expected, got)
  if type(expected) ~= "table" or type(got) ~= "table" then return same(expected, got) end
  for key, value in pairs(expected) do if not holds(value, got[key]) then return false end end
  return true
end

local function hex(s) return (s:gsub(".", function(c) return string.format("%02x", c:byte()) end)) end

local function check(name, good, got)
  if not good then error(name .. ": got " .. tostring(got), 0) end
  print(name)
end

local function bytes_are(name, got, vector)
  check(name, got == vector.bytes, hex(got))
end

local checks = {}

function checks.HELLO(v)
  local fields = v.message.fields
  local heads = {}
  for i, one in ipairs(fields.actions) do heads[i] = {table.unpack(one)} end
  local spec = {client = fields.client, game = fields.game, observation = fields.observation,
    actions = heads, rewards = fields.rewards, masks = fields.masks, metrics = fields.metrics}
  local sent = understudy.unpack(understudy.hello(spec, fields), 5)
  check(v.name, sent[1] == 1 and same(sent[2], fields), "other fields")
end

function checks.FRAME(v)
  local m = v.message
  bytes_are(v.name, understudy.frame(v.heads, m.slot, m.seq, m.obs, m.reward, m.status, m.expert, m.took, m.legal, m.metrics), v)
end

function checks.PING(v) bytes_are(v.name, understudy.ping(v.message.nonce), v) end

function checks.BYE(v) bytes_are(v.name, understudy.bye(), v) end

local function from_server(v)
  for _, size in ipairs{1, 7, 100000} do
    for _, count in ipairs{1, 3} do
      local stream, box, got = v.bytes:rep(count), understudy.inbox(), 0
      for at = 1, #stream, size do
        box.add(stream:sub(at, at + size - 1))
        for message in box.next do
          got = got + 1
          local type = message.type
          message.type = nil
          check(v.name .. " in pieces of " .. size, type == v.type and holds(v.message, message) and (v.message.action ~= nil) == (message.action ~= nil), type)
        end
      end
      check(v.name .. " x " .. count, got == count, got)
    end
  end
  for stop = 0, #v.bytes - 5 do
    local good = pcall(understudy.decode, v.bytes:sub(5, 4 + stop))
    check(v.name .. " cut at " .. stop, not good, "a message")
  end
end

for _, vector in ipairs(vectors) do
  if vector.from == "server" then from_server(vector) else checks[vector.type](vector) end
end

local good = pcall(function()
  local box = understudy.inbox()
  box.add("HTTP/1.1 400 Bad Request\r\n")
  box.next()
end)
check("another protocol is refused", not good, "a message")

local numbers = {}
for i = 1, 250 do numbers[i] = i / 2 end
check("a tensor of float32", understudy.tensor("float32", numbers) == string.pack("<" .. ("f"):rep(200), table.unpack(numbers, 1, 200))
  .. string.pack("<" .. ("f"):rep(50), table.unpack(numbers, 201)), "other bytes")
check("a tensor of uint8", understudy.tensor("uint8", {0, 7, 255}) == "\0\7\xff", "other bytes")

for _, one in ipairs{{0, 1}, {127, 1}, {128, 2}, {255, 2}, {256, 3}, {65535, 3}, {65536, 5}, {4294967295, 5},
  {4294967296, 9}, {-1, 1}, {-32, 1}, {-33, 2}, {-128, 2}, {-129, 3}, {-32769, 5}, {-2147483649, 9}} do
  local packed = understudy.pack(one[1])
  check("int " .. one[1], understudy.unpack(packed, 1) == one[1] and #packed == one[2], hex(packed))
end
for _, length in ipairs{0, 31, 32, 255, 256, 70000} do
  local text = ("x"):rep(length)
  check("str of " .. length, understudy.unpack(understudy.pack(text), 1) == text, "another")
end
local legal = {true, false, true, false, true, false, false, false, false, true}
check("a mask", understudy.mask(legal) == "\x15\x02", hex(understudy.mask(legal)))
local board = {{"discrete", "row", 3}, {"discrete", "column", 7}}
check("a mask of booleans in a frame", understudy.frame(board, 0, 0, "", 0, 0, nil, nil, legal)
  == understudy.frame(board, 0, 0, "", 0, 0, nil, nil, "\x15\x02"), "another frame")
for _ = 1, 50 do
  local action = understudy.random_action(board, legal)
  check("a random action is legal", legal[action[1] + 1] and legal[3 + action[2] + 1], action[1] .. " " .. action[2])
end
local heads = {{"discrete", "go", 2}}
check("a whole number is a reward too",
  understudy.frame(heads, 0, 0, "", 1, 0) == understudy.frame(heads, 0, 0, "", 1.0, 0), "another frame")
check("more than one value", not pcall(understudy.decode, "\x92\x0e\xc0\xc0"), "a message")
check("an ACTION that lacks its end", not pcall(understudy.decode, "\x94\x0c\0\0\xc0"), "a message")
check("a message of a client's", not pcall(understudy.decode, "\x91\5"), "a message")
