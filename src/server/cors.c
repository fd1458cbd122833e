#include "cors.h"

#include <string.h>
#include <strings.h>

#include "handlers.h"

#define MAX_AGE "600" /* seconds that a browser may remember a preflight; some take no more */

/* The fields of requests that mean something here and that a page must ask for. */
static const char *const permitted_headers[] = {"Authorization", "Content-Type",    "If-Match",
                                                "If-None-Match", "Idempotency-Key", "Accept"};

/* --- the setting --- */

static bool is_host_byte(char byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' ||
	       byte == '.' || byte == '_';
}

/* What follows "://": a name or an address, perhaps a port, nothing else. */
static bool is_authority(const char *text, size_t length)
{
	size_t at = 0;

	if (at < length && text[at] == '[') {
		while (++at < length && (is_host_byte(text[at]) || text[at] == ':'))
			;
		if (at == 1 || at == length || text[at++] != ']')
			return false;
	} else {
		while (at < length && is_host_byte(text[at]))
			at++;
	}
	if (at == 0 || at == length)
		return at > 0;
	if (text[at++] != ':' || at == length)
		return false;
	while (at < length && text[at] >= '0' && text[at] <= '9')
		at++;
	return at == length;
}

static bool is_origin(const char *text, size_t length)
{
	size_t scheme = 0;

	while (scheme < length &&
	       ((text[scheme] >= 'a' && text[scheme] <= 'z') ||
	        (scheme > 0 && strchr("0123456789+-.", text[scheme]) && text[scheme])))
		scheme++;
	if (scheme == 0 || length - scheme < 3 || memcmp(text + scheme, "://", 3) != 0)
		return false;
	return is_authority(text + scheme + 3, length - scheme - 3);
}

static const char *read_one(const char *text, size_t length, struct cors_origins *origins)
{
	if (length == 1 && *text == '*') {
		origins->any = true;
		return NULL;
	}
	if (length > CORS_ORIGIN_MAX)
		return "has an origin of over 255 bytes";
	if (!is_origin(text, length))
		return "holds something that is no origin";
	memcpy(origins->origin[origins->count], text, length);
	origins->origin[origins->count][length] = '\0';
	return NULL;
}

const char *cors_read(const char *text, struct cors_origins *origins)
{
	memset(origins, 0, sizeof(*origins));
	for (text += strspn(text, " "); *text; text += strspn(text, " ")) {
		size_t length = strcspn(text, " ");
		if (origins->count == CORS_ORIGINS_MAX)
			return "holds too many origins";
		const char *wrong = read_one(text, length, origins);
		if (wrong)
			return wrong;
		origins->count++;
		text += length;
	}
	return origins->any && origins->count > 1 ? "says any and names some" : NULL;
}

/* --- requests --- */

/* The one Origin of the request; length 0: none, or more than one. */
static struct words origin_of(const struct call *call)
{
	struct http_span field = call->request->field[HTTP_ORIGIN];

	if (call->request->repeated & (1u << HTTP_ORIGIN))
		return (struct words){0};
	return (struct words){call->bytes + field.at, field.length};
}

const char *cors_allows(const struct call *call)
{
	const struct cors_origins *origins = &call->settings->cors_origins;
	struct words origin = origin_of(call);

	if (origins->count == 0 || origin.length == 0)
		return NULL;
	if (origins->any)
		return "*";
	for (unsigned i = 0; i < origins->count; i++)
		if (strlen(origins->origin[i]) == origin.length &&
		    memcmp(origins->origin[i], origin.bytes, origin.length) == 0)
			return origins->origin[i];
	return NULL;
}

/* Of a page that this very address has given out: Origin and Host name the same place. */
static bool is_own(const struct call *call)
{
	struct words origin = origin_of(call);
	struct http_span host = call->request->field[HTTP_HOST];

	if (origin.length == 0)
		return false;
	const char *authority = memmem(origin.bytes, origin.length, "://", 3);
	if (!authority)
		return false;
	authority += 3;
	size_t length = origin.length - (size_t)(authority - origin.bytes);
	return length == host.length && strncasecmp(authority, call->bytes + host.at, length) == 0;
}

bool cors_is_foreign(const struct call *call)
{
	const struct http_request *request = call->request;

	if (request->field[HTTP_ORIGIN].length == 0 || request->method == HTTP_GET ||
	    request->method == HTTP_HEAD)
		return false;
	return !cors_allows(call) && !is_own(call);
}

/* --- preflights --- */

bool cors_is_preflight(const struct call *call)
{
	return cors_allows(call) &&
	       call->request->field[HTTP_ACCESS_CONTROL_REQUEST_METHOD].length > 0;
}

/* Those of permitted_headers that were asked for, in a list. */
static void list_headers(const struct call *call, struct text *list)
{
	struct http_span asked = call->request->field[HTTP_ACCESS_CONTROL_REQUEST_HEADERS];

	for (size_t i = 0; i < sizeof(permitted_headers) / sizeof(permitted_headers[0]); i++) {
		if (!http_list_has(call->bytes + asked.at, asked.length, permitted_headers[i]))
			continue;
		if (list->length > 0)
			text_literal(list, ", ");
		text_string(list, permitted_headers[i]);
	}
	text_bytes(list, "", 1);
}

void cors_preflight(const struct call *call, struct answer *answer, const char *allow)
{
	char headers[128];
	struct text list;
	struct reply_field fields[] = {{"Allow", allow},
	                               {"Access-Control-Allow-Methods", allow},
	                               {"Access-Control-Max-Age", MAX_AGE},
	                               {"Access-Control-Allow-Headers", headers},
	                               {NULL, NULL}};
	struct reply reply = {.status = 204, .fields = fields};

	text_init(&list, headers, sizeof(headers));
	list_headers(call, &list);
	if (headers[0] == '\0')
		fields[3].name = NULL;
	answer->status = 204;
	reply_write(&answer->out, &call->frame, &reply);
}
