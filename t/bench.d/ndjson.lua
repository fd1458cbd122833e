-- A thousand events a request, one per line, over 10 000 accounts; the bodies are made once.
local events = 1000
local bodies = {}
local seed = 54321
local at = 0

init = function()
	local headers = { ["Content-Type"] = "application/x-ndjson" }
	for b = 1, 32 do
		local lines = {}
		for i = 1, events do
			seed = (seed * 1103515245 + 12345) % 2147483648
			lines[i] = '{"account":"user' .. math.floor(seed / 65536) % 10000 .. '","amount":1}\n'
		end
		bodies[b] = wrk.format("POST", nil, headers, table.concat(lines))
	end
end

request = function()
	at = at % #bodies + 1
	return bodies[at]
end
