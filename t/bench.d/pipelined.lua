-- Sixteen events in a row, each its own request; the batches are made once, so that the load
-- generator has the processor for sending them.
local depth = 16
local batches = {}
local seed = 54321
local at = 0

init = function()
	for b = 1, 512 do
		local batch = {}
		for i = 1, depth do
			seed = (seed * 1103515245 + 12345) % 2147483648
			batch[i] = wrk.format("POST", nil, nil,
				'{"account":"user' .. math.floor(seed / 65536) % 10000 .. '","amount":1}')
		end
		batches[b] = table.concat(batch)
	end
end

request = function()
	at = at % #batches + 1
	return batches[at]
end
