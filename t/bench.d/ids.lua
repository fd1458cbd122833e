-- One event per request over 10 000 accounts, each with an id that was never used before.
local seed = 12345
local run = os.time()
local count = 0

request = function()
	seed = (seed * 1103515245 + 12345) % 2147483648
	count = count + 1
	return wrk.format("POST", nil, nil, '{"account":"user' .. math.floor(seed / 65536) % 10000
		.. '","amount":1,"id":"' .. run .. "-" .. count .. '"}')
end
