-- What a script sees, made of what the machine brings. Runs once for each machine.
--
-- `native` holds the machine's functions in Rust; the result is what the machine calls.
local native = ...

local type, error, setmetatable, rawset, select = type, error, setmetatable, rawset, select
local tostring, pairs, loadstring, setfenv, next = tostring, pairs, loadstring, setfenv, next
local native_pcall, native_xpcall = pcall, xpcall
local create, resume, status, yield = coroutine.create, coroutine.resume, coroutine.status, coroutine.yield
local attempt, located, as_lua = native.attempt, native.located, native.as_lua
local is_stopped = native.is_stopped
local native_unpack, floor = unpack, math.floor

-- What a coroutine yields when a command runs elsewhere: whoever resumes it passes it on, up to the machine.
local PAUSE = native.pause

local ERROR, ELSEWHERE = 2, 3
local handler = native.handler

local function answered(raises, what, value)
  if what == ELSEWHERE then
    what, value = yield(PAUSE)
  end
  if what == ERROR and raises then
    error(located(value), 0)
  end
  return value
end

local redis = native.redis

if native.pauses then
  function redis.call(...)
    return answered(true, attempt(...))
  end

  function redis.pcall(...)
    return answered(false, attempt(...))
  end
else
  redis.call, redis.pcall = native.call, native.pcall
end

-- An error that Rust has raised, as Lua's own functions raise it.
local raise = error

local function caught(ok, error, ...)
  if ok then
    return true, error, ...
  end
  if is_stopped() then
    -- Nothing keeps a script from ending that is to end.
    raise(error, 0)
  end
  if type(error) == "userdata" then
    error = as_lua(error)
  end
  -- A command's error is its text, as it was before scripts had tables for them.
  if type(error) == "table" and type(error.err) == "string" then
    error = error.err
  end
  return false, error
end

local function plain_pcall(...)
  return caught(native_pcall(...))
end

local function stopped_or(ok, ...)
  if not ok and is_stopped() then
    raise((...), 0)
  end
  return ok, ...
end

local function plain_xpcall(f, handler)
  return stopped_or(native_xpcall(f, function(error)
    return handler(type(error) == "userdata" and as_lua(error) or error)
  end))
end

-- Where a script may pause, what calls it must be able to: Lua 5.1 cannot yield across a call from C.
local function passed_on(co, ok, ...)
  if ok and status(co) == "suspended" then
    return passed_on(co, resume(co, yield(...)))
  end
  return ok, ...
end

local function in_coroutine(f, ...)
  local co = create(function(...) return f(...) end)
  return passed_on(co, resume(co, ...))
end

local function pausable_pcall(f, ...)
  if type(f) ~= "function" then
    return native_pcall(f, ...)
  end
  return caught(in_coroutine(f, ...))
end

local function handled(handler, ok, ...)
  if ok then
    return true, ...
  end
  local error = ...
  if type(error) == "userdata" then
    error = as_lua(error)
  end
  return false, handler(error)
end

local function pausable_xpcall(f, handler)
  return stopped_or(handled(handler, in_coroutine(f)))
end

local function resumed(co, ok, first, ...)
  if ok and first == PAUSE then
    return resumed(co, resume(co, yield(PAUSE)))
  end
  if not ok then
    if is_stopped() then
      raise(first, 0)
    end
    if type(first) == "userdata" then
      first = as_lua(first)
    end
  end
  return ok, first, ...
end

local function pausable_resume(co, ...)
  return resumed(co, resume(co, ...))
end

local function unwrapped(ok, ...)
  if not ok then
    error((...), 0)
  end
  return ...
end

local function pausable_wrap(f)
  local co = create(f)
  return function(...)
    return unwrapped(resumed(co, resume(co, ...)))
  end
end

-- Nothing that one script changes may be seen by the next.
local proxies = {}

local function read_only(table)
  local proxy = {}
  proxies[#proxies + 1] = proxy
  setmetatable(proxy, {
    __index = table,
    __newindex = function() error("Attempt to modify a readonly table", 2) end,
    __metatable = false,
  })
  return proxy
end

local environment, shown = {}, {}

-- What a script loads sees what it sees itself.
local function loads_for(seen)
  local function load_text(text)
    if type(text) == "string" and text:sub(1, 1) == "\27" then
      return nil, "attempt to load a binary chunk"
    end
    -- A name of the script's own would not be safe from being collected meanwhile.
    local loaded, why = loadstring(text, "=(load)")
    if loaded then
      setfenv(loaded, seen)
    end
    return loaded, why
  end

  local function load_pieces(next_piece)
    local text = {}
    while true do
      local piece = next_piece()
      if piece == nil or piece == "" then break end
      text[#text + 1] = piece
    end
    return load_text(table.concat(text))
  end

  return load_text, load_pieces
end

for _, name in pairs({
  "assert", "error", "gcinfo", "getmetatable", "ipairs", "next", "pairs", "pcall", "rawequal",
  "rawget", "rawset", "select", "setmetatable", "tonumber", "tostring", "type", "xpcall", "_VERSION",
}) do
  shown[name] = _G[name]
end
shown.loadstring, shown.load = loads_for(environment)

-- The native one computes how many there are in 32 bits, and believes what comes out.
local MOST_UNPACKED = 8000

function shown.unpack(list, first, last)
  if first == nil and last == nil and #list < MOST_UNPACKED then
    -- Of so many every word on the stack counts.
    return native_unpack(list)
  end
  first, last = floor(first or 1), floor(last or #list)
  if last - first >= MOST_UNPACKED then
    error("too many results to unpack", 2)
  end
  return native_unpack(list, first, last)
end

-- How memory is collected is no script's own business.
local collect = collectgarbage

function shown.collectgarbage(what)
  if what ~= nil and what ~= "count" and what ~= "collect" and what ~= "step" then
    return 0
  end
  return collect(what)
end

local is_read_only = {}

local function writable(table)
  if is_read_only[table] then
    error("Attempt to modify a readonly table", 0)
  end
  return table
end

function shown.rawset(table, key, value)
  return rawset(writable(table), key, value)
end

function shown.setmetatable(table, metatable)
  return setmetatable(writable(table), metatable)
end

local math_shown = {}
for name, value in pairs(math) do
  math_shown[name] = value
end
math_shown.random, math_shown.randomseed = native.random, native.randomseed

local coroutines = {}
for name, value in pairs(coroutine) do
  coroutines[name] = value
end
coroutines.resume, coroutines.wrap = pausable_resume, pausable_wrap
if native.pauses then
  shown.pcall, shown.xpcall = pausable_pcall, pausable_xpcall
else
  shown.pcall, shown.xpcall = plain_pcall, plain_xpcall
end

-- Strings' own metatable must not be changed, nor what it leads to.
local strings = {}
for name, value in pairs(string) do
  strings[name] = value
end

-- Matching goes as deep as a pattern is long.
local MOST_OF_A_PATTERN = 16384

for _, name in pairs({ "find", "match", "gmatch", "gsub" }) do
  local native_one = string[name]
  strings[name] = function(text, pattern, ...)
    if type(pattern) == "string" and #pattern > MOST_OF_A_PATTERN then
      error("pattern too complex", 2)
    end
    return native_one(text, pattern, ...)
  end
end
local of_strings = getmetatable("")
of_strings.__index = strings
of_strings.__metatable = false

for name, library in pairs({
  redis = redis,
  string = strings,
  table = table,
  math = math_shown,
  coroutine = coroutines,
  bit = native.bit,
  cjson = native.cjson,
  cmsgpack = native.cmsgpack,
  struct = native.struct,
}) do
  shown[name] = read_only(library)
end
shown.server = shown.redis
shown._G = environment
is_read_only[environment] = true
for _, proxy in pairs(proxies) do
  is_read_only[proxy] = true
end

-- What is seen there is found by its name; nothing can be put there.
local nothing = read_only({})
is_read_only[nothing] = true

local function only_shows(seen, find)
  setmetatable(seen, {
    __index = function(_, name)
      local value = find(name)
      if value == nil then
        error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
      end
      return value
    end,
    __newindex = function()
      error("Attempt to modify a readonly table", 2)
    end,
    __metatable = nothing,
  })
end

only_shows(environment, function(name) return shown[name] end)

-- A library registers functions, and may do nothing else. What it holds beside them is there for one call: it is
-- loaded for each.
local FLAGS = {
  ["no-writes"] = true, ["allow-oom"] = true, ["allow-stale"] = true, ["no-cluster"] = true,
  ["allow-cross-slot-keys"] = true,
}
local registered, order

local function refuse(why)
  error({ err = "ERR " .. why }, 0)
end

local function register(name, callback, flags, description)
  if not registered then
    refuse("redis.register_function can only be called on FUNCTION LOAD command")
  end
  if not strings.match(name, "^[%w_]+$") then
    refuse("Library names can only contain letters, numbers, or underscores(_) and must be at least one character long")
  end
  if registered[name] then
    refuse("Function already exists in the library")
  end
  registered[name] = callback
  order[#order + 1] = { name = name, flags = flags, description = description }
end

local function flags_of(given)
  local flags = {}
  if type(given) ~= "table" then
    refuse("flags argument to redis.register_function must be a table representing function flags")
  end
  for n = 1, #given do
    if type(given[n]) ~= "string" or not FLAGS[given[n]] then
      refuse("unknown flag given")
    end
    flags[n] = given[n]
  end
  return flags
end

local ARGUMENTS = { function_name = "string", description = "string", callback = "function", flags = "any" }

local function register_named(given)
  for name, value in pairs(given) do
    local wanted = ARGUMENTS[name]
    if not wanted then
      refuse("unknown argument given to redis.register_function")
    end
    if wanted ~= "any" and type(value) ~= wanted then
      local what = wanted == "string" and "a string" or "a function"
      refuse(name .. " argument given to redis.register_function must be " .. what)
    end
  end
  if not given.function_name then
    refuse("redis.register_function must get a function name argument")
  end
  if not given.callback then
    refuse("redis.register_function must get a callback argument")
  end
  register(given.function_name, given.callback, given.flags and flags_of(given.flags) or {}, given.description)
end

local of_libraries, redis_of_libraries = {}, {}
for name, value in pairs(redis) do
  redis_of_libraries[name] = value
end

for _, name in pairs({ "call", "pcall" }) do
  local command = redis[name]
  redis_of_libraries[name] = function(...)
    if registered then
      error("attempted to access nonexistent global variable '" .. name .. "'", 2)
    end
    return command(...)
  end
end

function redis_of_libraries.register_function(...)
  local count, first, second = select("#", ...), ...
  if count == 1 and type(first) == "table" then
    return register_named(first)
  end
  if count == 1 then
    refuse("calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).")
  end
  if count ~= 2 then
    refuse("wrong number of arguments to redis.register_function")
  end
  if type(first) ~= "string" then
    refuse("first argument to redis.register_function must be a string")
  end
  if type(second) ~= "function" then
    refuse("second argument to redis.register_function must be a function")
  end
  register(first, second, {}, nil)
end

local shown_redis = read_only(redis_of_libraries)
is_read_only[shown_redis], is_read_only[of_libraries] = true, true
local own = { redis = shown_redis, server = shown_redis, _G = of_libraries }
own.loadstring, own.load = loads_for(of_libraries)
only_shows(of_libraries, function(name)
  local value = own[name]
  if value == nil then return shown[name] end
  return value
end)

local function loaded(library)
  registered, order = {}, {}
  local ok, why = native_xpcall(library, handler)
  local found, names = registered, order
  registered, order = nil, nil
  if not ok then
    raise(why, 0)
  end
  return found, names
end

local function function_of(library, name)
  local found = loaded(library)[name]
  if not found then
    error({ err = "ERR Function not found" }, 0)
  end
  return found
end

return {
  -- The functions that a library registers, or how it failed.
  inspect = function(library)
    return native_xpcall(function()
      local _, names = loaded(library)
      return names
    end, handler)
  end,
  run_function = function(library, keys, argv, name)
    return native_xpcall(function() return function_of(library, name)(keys, argv) end, handler)
  end,
  begin_function = function(library, keys, argv, name)
    return handled(handler, in_coroutine(function() return function_of(library, name)(keys, argv) end))
  end,
  of_libraries = of_libraries,
  -- Runs a script under its environment; what it returned, or how it failed.
  run = function(script, keys, argv)
    rawset(environment, "KEYS", keys)
    rawset(environment, "ARGV", argv)
    return native_xpcall(script, handler)
  end,
  -- The same where it may pause: with a coroutine that the machine resumes.
  begin = function(script, keys, argv)
    rawset(environment, "KEYS", keys)
    rawset(environment, "ARGV", argv)
    return handled(handler, in_coroutine(script))
  end,
  environment = environment,
  -- Whether a script has left something behind.
  is_clean = function()
    rawset(environment, "KEYS", nil)
    rawset(environment, "ARGV", nil)
    for _, proxy in pairs(proxies) do
      if next(proxy) ~= nil then return false end
    end
    registered, order = nil, nil
    return next(environment) == nil and next(of_libraries) == nil
  end,
}
