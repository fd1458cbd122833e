/*
 * The request target in its four forms, and the host it may name (RFC 9112 3.2).
 */
#include "http_parts.h"

#include <arpa/inet.h>
#include <string.h>

#define PORT_DIGITS_MAX 5
#define PORT_MAX        65535

static enum http_progress refuse(struct http_request *request, const char *detail)
{
	return http_refuse(request, 400, "bad_target", detail);
}

static struct http_span span(size_t at, size_t length)
{
	return (struct http_span){(uint32_t)at, (uint32_t)length};
}

/* The length of the path that TEXT begins with, up to '?' or the end; -1 if a byte is wrong. */
static long path_length(const char *text, size_t length)
{
	size_t i = 0;

	for (;;) {
		i += http_span_of(text + i, length - i, HTTP_TARGET);
		if (i == length || text[i] == '?')
			return (long)i;
		if (!http_is_escape(text + i, length - i))
			return -1;
		i += 3;
	}
}

/* A query may hold '?' itself. */
static bool query_valid(const char *text, size_t length)
{
	size_t i = 0;

	for (;;) {
		long run = path_length(text + i, length - i);

		if (run < 0)
			return false;
		i += (size_t)run;
		if (i == length)
			return true;
		i++;
	}
}

static enum http_progress read_path(struct http_request *request, const char *buffer, size_t at,
                                    size_t length)
{
	long path = path_length(buffer + at, length);

	if (path < 0)
		return refuse(request, "The target holds a byte or an escape that a URI may not.");
	size_t query = (size_t)path + 1;

	request->path = span(at, (size_t)path);
	if (query > length)
		return HTTP_DONE;
	if (!query_valid(buffer + at + query, length - query))
		return refuse(request, "The query holds a byte or an escape that a URI may not.");
	request->query = span(at + query, length - query);
	return HTTP_DONE;
}

/* AT is where the authority begins, after "//". */
static enum http_progress read_absolute(struct http_request *request, const char *buffer, size_t at,
                                        size_t length)
{
	size_t authority = 0;

	while (authority < length && buffer[at + authority] != '/' && buffer[at + authority] != '?')
		authority++;
	if (!http_host_valid(buffer + at, authority))
		return refuse(request, "The target's authority is not host [ \":\" port ].");
	request->seen |= HTTP_SEEN_AUTHORITY;
	request->field[HTTP_HOST] = span(at, authority);
	if (read_path(request, buffer, at + authority, length - authority) == HTTP_REFUSED)
		return HTTP_REFUSED;
	/* An empty path means "/" (RFC 9110 4.2.3), and there is one just before the authority. */
	if (request->path.length == 0)
		request->path = span(at - 1, 1);
	return HTTP_DONE;
}

/* CONNECT's target: the port must be there (RFC 9112 3.2.3). */
static enum http_progress read_authority(struct http_request *request, const char *buffer,
                                         size_t at, size_t length)
{
	if (!http_host_valid(buffer + at, length) ||
	    !http_is(buffer[at + length - 1], HTTP_DIGIT) ||
	    memchr(buffer + at, ':', length) == NULL)
		return refuse(request, "CONNECT wants a host and a port as its target.");
	request->seen |= HTTP_SEEN_AUTHORITY;
	request->path = request->field[HTTP_HOST] = span(at, length);
	return HTTP_DONE;
}

static size_t scheme_length(const char *target, size_t length)
{
	if (length >= 7 && http_equals(target, 7, "http://"))
		return 7;
	if (length >= 8 && http_equals(target, 8, "https://"))
		return 8;
	return 0;
}

enum http_progress http_target_read(struct http_request *request, const char *buffer, size_t at,
                                    size_t length)
{
	const char *target = buffer + at;
	struct http_span method = request->method_name;

	if (method.length == 7 && memcmp(buffer + method.at, "CONNECT", 7) == 0)
		return read_authority(request, buffer, at, length);
	if (target[0] == '/')
		return read_path(request, buffer, at, length);
	if (length == 1 && target[0] == '*') {
		if (request->method != HTTP_OPTIONS)
			return refuse(request, "Only OPTIONS may have \"*\" as its target.");
		request->path = span(at, 1);
		return HTTP_DONE;
	}
	size_t scheme = scheme_length(target, length);

	if (scheme == 0)
		return refuse(request, "The target is neither a path nor an http or https URI.");
	return read_absolute(request, buffer, at + scheme, length - scheme);
}

static bool ipv6_valid(const char *address, size_t length)
{
	char copy[INET6_ADDRSTRLEN];
	struct in6_addr ignored;

	if (length >= sizeof(copy) || memchr(address, '\0', length) != NULL)
		return false;
	memcpy(copy, address, length);
	copy[length] = '\0';
	return inet_pton(AF_INET6, copy, &ignored) == 1;
}

/* What follows the host: nothing, or ":" and perhaps a number (RFC 3986 3.2.3). */
static bool port_valid(const char *port, size_t length)
{
	uint32_t value = 0;

	if (length == 0)
		return true;
	if (port[0] != ':' || length - 1 > PORT_DIGITS_MAX)
		return false;
	for (size_t i = 1; i < length; i++) {
		if (!http_is(port[i], HTTP_DIGIT))
			return false;
		value = value * 10 + (uint32_t)(port[i] - '0');
	}
	return value <= PORT_MAX;
}

bool http_host_valid(const char *host, size_t length)
{
	size_t i = 0;

	if (length > 0 && host[0] == '[') {
		const char *end = memchr(host, ']', length);

		if (end == NULL || !ipv6_valid(host + 1, (size_t)(end - host) - 1))
			return false;
		i = (size_t)(end - host) + 1;
		return port_valid(host + i, length - i);
	}
	for (;;) {
		i += http_span_of(host + i, length - i, HTTP_REGNAME);
		if (!http_is_escape(host + i, length - i))
			break;
		i += 3;
	}
	return i > 0 && port_valid(host + i, length - i);
}
