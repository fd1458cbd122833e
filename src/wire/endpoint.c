#include "endpoint.h"

#define STATUS_FIRST 200
#define STATUS_LAST  507

static const struct endpoint_name names[ENDPOINTS] = {
    [ENDPOINT_OTHER] = {"other", "other"},
    [ENDPOINT_ABOUT] = {"GET", "/"},
    [ENDPOINT_HEALTH] = {"GET", "/healthz"},
    [ENDPOINT_METRICS] = {"GET", "/metrics"},
    [ENDPOINT_FEED] = {"GET", "/feed"},
    [ENDPOINT_EVENT] = {"POST", "/events"},
    [ENDPOINT_TRANSFER] = {"POST", "/transfers"},
    [ENDPOINT_TRANSACTION] = {"POST", "/transactions"},
    [ENDPOINT_ACCOUNT] = {"GET", "/accounts/NAME"},
    [ENDPOINT_REPLACE] = {"PUT", "/accounts/NAME"},
    [ENDPOINT_DELETE] = {"DELETE", "/accounts/NAME"},
    [ENDPOINT_ACCOUNTS] = {"GET", "/accounts"},
    [ENDPOINT_CREATE] = {"POST", "/accounts"},
    [ENDPOINT_STATEMENT] = {"GET", "/accounts/NAME/events"},
    [ENDPOINT_ACCOUNT_HOLDS] = {"GET", "/accounts/NAME/holds"},
    [ENDPOINT_PLACE] = {"POST", "/holds"},
    [ENDPOINT_HOLD] = {"GET", "/holds/ID"},
    [ENDPOINT_CAPTURE] = {"POST", "/holds/ID/capture"},
    [ENDPOINT_RELEASE] = {"POST", "/holds/ID/release"},
    [ENDPOINT_ECHO] = {"POST", "/echo"},
    [ENDPOINT_FAST] = {"GET", "/fast"},
    [ENDPOINT_SLEEP] = {"GET", "/sleep"},
    [ENDPOINT_REDIS] = {"redis", "command"},
};

static const unsigned short statuses[] = {0,   200, 201, 202, 204, 304, 400, 401, 402, 403, 404,
                                          405, 406, 408, 409, 410, 411, 412, 413, 414, 415, 417,
                                          422, 423, 429, 431, 500, 501, 503, 505, 507};

/* The same the other way round. */
static const unsigned char columns[STATUS_LAST - STATUS_FIRST + 1] = {
    [0] = 1,    [1] = 2,    [2] = 3,    [4] = 4,    [104] = 5,  [200] = 6,  [201] = 7,  [202] = 8,
    [203] = 9,  [204] = 10, [205] = 11, [206] = 12, [208] = 13, [209] = 14, [210] = 15, [211] = 16,
    [212] = 17, [213] = 18, [214] = 19, [215] = 20, [217] = 21, [222] = 22, [223] = 23, [229] = 24,
    [231] = 25, [300] = 26, [301] = 27, [303] = 28, [305] = 29, [307] = 30,
};

const struct endpoint_name *endpoint_name(enum endpoint endpoint)
{
	return &names[endpoint < ENDPOINTS ? endpoint : ENDPOINT_OTHER];
}

unsigned endpoint_column(unsigned status)
{
	return status >= STATUS_FIRST && status <= STATUS_LAST ? columns[status - STATUS_FIRST] : 0;
}

unsigned endpoint_status(unsigned column)
{
	return column < sizeof(statuses) / sizeof(statuses[0]) ? statuses[column] : 0;
}
