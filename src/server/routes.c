#include <string.h>

#include "routes.h"

#define GET_ALLOW  "GET, HEAD, OPTIONS"
#define POST_ALLOW "POST, OPTIONS"

static const struct route routes[] = {
    {.pattern = "/events", .method = HTTP_POST, .allow = POST_ALLOW, .handle = handle_event},
    {.pattern = "/accounts/*", .method = HTTP_GET, .allow = GET_ALLOW, .handle = handle_account},
    {.pattern = "/healthz", .method = HTTP_GET, .allow = GET_ALLOW, .handle = handle_health},
    {.pattern = "/", .method = HTTP_GET, .allow = GET_ALLOW, .handle = handle_about},
    {.pattern = "/echo",
     .method = HTTP_POST,
     .allow = POST_ALLOW,
     .handle = handle_echo,
     .returns_body = true},
    {.pattern = "/fast",
     .method = HTTP_GET,
     .allow = GET_ALLOW,
     .handle = handle_fast,
     .diagnostics = true},
    {.pattern = "/sleep",
     .method = HTTP_GET,
     .allow = GET_ALLOW,
     .handle = handle_sleep,
     .diagnostics = true},
};

static bool matches(const char *pattern, const char *path, size_t length, struct http_span *segment)
{
	size_t fixed = strlen(pattern);
	*segment = (struct http_span){0};
	if (pattern[fixed - 1] != '*')
		return fixed == length && memcmp(pattern, path, length) == 0;
	fixed--;
	if (length < fixed || memcmp(pattern, path, fixed) != 0 ||
	    memchr(path + fixed, '/', length - fixed))
		return false;
	*segment = (struct http_span){.at = (uint32_t)fixed, .length = (uint32_t)(length - fixed)};
	return true;
}

const struct route *route_find(const char *path, size_t length, bool diagnostics,
                               struct http_span *segment)
{
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		const struct route *route = &routes[i];
		if ((diagnostics || !route->diagnostics) &&
		    matches(route->pattern, path, length, segment))
			return route;
	}
	return NULL;
}

bool route_allows(const struct route *route, enum http_method method)
{
	return method == route->method || (method == HTTP_HEAD && route->method == HTTP_GET);
}
