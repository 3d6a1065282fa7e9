-- The load of one measurement, for wrk: wrk -t1 ... -s load.lua URL -- KEY WANTED BODY [FILE BATCH]
--
-- Sends BODY again and again. With FILE, which has an order's id on each line, it requests refills of BATCH orders at a
-- time instead, of each order once, and ends after the last. An answer is good if its status and the beginning of its
-- body are as in WANTED ("200 {..."). Prints one line of JSON.

local ffi = require("ffi")
ffi.cdef([[
typedef struct { long s, ns; } moment;
int clock_gettime(int clock, moment *now);
int getpid(void);
int kill(int process, int number);
]])

local thread

local function seconds()
  local now = ffi.new("moment")
  ffi.C.clock_gettime(1, now) -- CLOCK_MONOTONIC
  return tonumber(now.s) + tonumber(now.ns) / 1e9
end

function setup(the_only_one)
  thread = the_only_one
end

function init(args)
  local key, body, file, batch = args[1], args[3], args[4], tonumber(args[5])
  wanted = args[2]
  good, refills, bad, first_bad, started, ended = 0, 0, 0, "", 0, 0
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
  prepared, at = {}, -1 -- wrk asks for one request more than it sends
  local function prepare(text)
    table.insert(prepared, wrk.format(nil, nil, nil, "key=" .. key .. "&" .. text))
  end
  if not file then return prepare(body) end
  only_once = true
  harmless = wrk.format(nil, nil, nil, "key=") -- for connections that are left without an order
  local ids = {}
  for line in io.lines(file) do
    table.insert(ids, line)
    if #ids == batch then
      prepare("action=refill&" .. (batch > 1 and "orders=" or "order=") .. table.concat(ids, ","))
      ids = {}
    end
  end
end

function request()
  at = at + 1
  if at == 1 then started = seconds() end
  if not only_once then return prepared[1] end
  return prepared[math.max(1, at)] or harmless
end

function response(status, headers, body)
  if only_once and (status == 401 or good + bad == #prepared) then return end
  local text = status .. " " .. body:sub(1, 100)
  if text:sub(1, #wanted) == wanted then
    good = good + 1
    if only_once then
      local _, count = body:gsub('"refill":"ref_', "")
      refills = refills + count
    end
  else
    bad = bad + 1
    first_bad = text
  end
  ended = seconds()
  if only_once and good + bad == #prepared then ffi.C.kill(ffi.C.getpid(), 2) end -- SIGINT, on which wrk ends and reports
end

function done(summary, latency, requests)
  local found = {}
  for _, name in ipairs({ "good", "refills", "bad", "first_bad", "started", "ended" }) do found[name] = thread:get(name) end
  local e = summary.errors
  io.write(string.format(
    '{"good": %d, "refills": %d, "bad": %d, "failed": %d, "seconds": %.4f, "p50": %.3f, "p99": %.3f, "first_bad": %q}\n',
    found.good, found.refills, found.bad, e.connect + e.read + e.write + e.timeout, found.ended - found.started,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, found.first_bad
  ))
end
