-- One transfer per request, between any two of 10 000 accounts.
local seed = 12345

local function account()
	seed = (seed * 1103515245 + 12345) % 2147483648
	return math.floor(seed / 65536) % 10000
end

request = function()
	local from = account()
	local to = (from + 1 + account() % 9999) % 10000
	return wrk.format("POST", "/transfers", nil,
		'{"from":"user' .. from .. '","to":"user' .. to .. '","amount":1}')
end
