-- Sixteen events in a row, each its own request.
local depth = 16
local seed = 54321

request = function()
	local batch = {}
	for i = 1, depth do
		seed = (seed * 1103515245 + 12345) % 2147483648
		batch[i] = wrk.format("POST", nil, nil,
			'{"account":"user' .. math.floor(seed / 65536) % 10000 .. '","amount":1}')
	end
	return table.concat(batch)
end
