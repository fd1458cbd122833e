-- One event per request, over BENCH_ACCOUNTS accounts (default 10 000).
local accounts = tonumber(os.getenv("BENCH_ACCOUNTS") or "10000")
local seed = 12345

request = function()
	seed = (seed * 1103515245 + 12345) % 2147483648
	return wrk.format("POST", nil, nil,
		'{"account":"user' .. math.floor(seed / 65536) % accounts .. '","amount":1}')
end
