-- A hold, and behind it on the same connection its capture: two requests each time.
local seed = 12345
local run = os.time()
local count = 0

request = function()
	seed = (seed * 1103515245 + 12345) % 2147483648
	count = count + 1
	local id = run .. "-" .. count
	return wrk.format("POST", "/holds", nil, '{"account":"user' .. math.floor(seed / 65536) % 10000
		.. '","amount":2,"ttl":60,"id":"' .. id .. '"}')
		.. wrk.format("POST", "/holds/" .. id .. "/capture", nil, '{"amount":1}')
end
