#include "routes.h"

#include <string.h>

#include "array.h"
#include "auth.h"
#include "console.h"
#include "cors.h"

#define GET_ALLOW  "GET, HEAD, OPTIONS"
#define POST_ALLOW "POST, OPTIONS"
#define ALL_ALLOW  "GET, HEAD, POST, PUT, DELETE, OPTIONS"

#define PROBLEM_JSON "application/problem+json"

#define GET(where, ...)                                                                            \
	{                                                                                          \
		.method = HTTP_GET, .endpoint = ENDPOINT_##where, .handle = __VA_ARGS__            \
	}
#define POST(where, ...)                                                                           \
	{                                                                                          \
		.method = HTTP_POST, .endpoint = ENDPOINT_##where, .handle = __VA_ARGS__           \
	}
#define PUT(where, ...)                                                                            \
	{                                                                                          \
		.method = HTTP_PUT, .endpoint = ENDPOINT_##where, .handle = __VA_ARGS__            \
	}
#define DELETE(where, ...)                                                                         \
	{                                                                                          \
		.method = HTTP_DELETE, .endpoint = ENDPOINT_##where, .handle = __VA_ARGS__         \
	}

#define READS    .scope = SCOPE_READ
#define WRITES   .scope = SCOPE_WRITE
#define GOVERNS  .scope = SCOPE_ADMIN
#define OVERSEES READS, .whole = true

#define PAGE      .room = HANDLER_PAGE_ROOM
#define OPERATION .room = HANDLER_OPERATION_ROOM
#define LARGE     .room = REPLY_RESULT_MAX

/* Load balancers have no tokens. */
static bool is_open(const struct call *call)
{
	(void)call;
	return true;
}

static const struct route routes[] = {
    {"/events", POST_ALLOW, {POST(EVENT, handle_event, WRITES, .events = true)}, false},
    {"/accounts/*",
     "GET, HEAD, PUT, DELETE, OPTIONS",
     {GET(ACCOUNT, handle_account, READS), PUT(REPLACE, handle_replace, GOVERNS, OPERATION),
      DELETE(DELETE, handle_delete, GOVERNS, OPERATION)},
     false},
    {"/accounts",
     "GET, HEAD, POST, OPTIONS",
     {GET(ACCOUNTS, handle_accounts, READS, PAGE), POST(CREATE, handle_create, GOVERNS, OPERATION)},
     false},
    {"/accounts/*/events", GET_ALLOW, {GET(STATEMENT, handle_statement, READS, PAGE)}, false},
    {"/accounts/*/holds",
     GET_ALLOW,
     {GET(ACCOUNT_HOLDS, handle_account_holds, READS, PAGE)},
     false},
    {"/transfers", POST_ALLOW, {POST(TRANSFER, handle_transfer, WRITES, OPERATION)}, false},
    {"/transactions", POST_ALLOW, {POST(TRANSACTION, handle_transaction, WRITES, LARGE)}, false},
    {"/holds", POST_ALLOW, {POST(PLACE, handle_place, WRITES, OPERATION)}, false},
    {"/holds/*", GET_ALLOW, {GET(HOLD, handle_hold, READS, OPERATION)}, false},
    {"/holds/*/capture", POST_ALLOW, {POST(CAPTURE, handle_capture, WRITES, OPERATION)}, false},
    {"/holds/*/release", POST_ALLOW, {POST(RELEASE, handle_release, WRITES, OPERATION)}, false},
    {"/feed", GET_ALLOW, {GET(FEED, handle_feed, READS)}, false},
    {"/metrics",
     GET_ALLOW,
     {GET(METRICS, handle_metrics, OVERSEES, .measure = metrics_room)},
     false},
    {"/healthz", GET_ALLOW, {GET(HEALTH, handle_health, .open = is_open)}, false},
    {"/",
     GET_ALLOW,
     {GET(ABOUT, handle_about, OVERSEES, .open = about_is_page,
          .room = CONSOLE_MAX + HANDLER_ROOM)},
     false},
    {"/echo", POST_ALLOW, {POST(ECHO, handle_echo, .returns_body = true)}, false},
    {"/fast", GET_ALLOW, {GET(FAST, handle_fast)}, true},
    {"/sleep", GET_ALLOW, {GET(SLEEP, handle_sleep)}, true},
};

/* Does PATH match PATTERN, with one whole segment for its "*"? */
static bool matches(const char *pattern, const char *path, size_t length, struct http_span *segment)
{
	const char *star = strchr(pattern, '*');
	size_t front = star ? (size_t)(star - pattern) : strlen(pattern);
	const char *behind = star ? star + 1 : "";
	size_t back = strlen(behind);

	*segment = (struct http_span){0};
	if (length < front + back || memcmp(pattern, path, front) != 0 ||
	    memcmp(behind, path + length - back, back) != 0)
		return false;
	size_t middle = length - front - back;
	if (!star)
		return middle == 0;
	if (memchr(path + front, '/', middle))
		return false;
	*segment = (struct http_span){.at = (uint32_t)front, .length = (uint32_t)middle};
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

const struct route_method *route_method(const struct route *route, enum http_method method)
{
	enum http_method wanted = method == HTTP_HEAD ? HTTP_GET : method;

	for (int i = 0; route && i < ROUTE_METHODS_MAX && route->method[i].handle; i++)
		if (route->method[i].method == wanted)
			return &route->method[i];
	return NULL;
}

/* Does the client prefer RFC 9457's form of errors, or at least like it as much? */
static bool wants_problem(const struct call *call)
{
	struct http_span accept = call->request->field[HTTP_ACCEPT];
	const char *value = call->bytes + accept.at;

	if (accept.length == 0)
		return false;
	unsigned problem = http_accepts(value, accept.length, PROBLEM_JSON);
	return problem > 0 && problem >= http_accepts(value, accept.length, REPLY_JSON);
}

void route_frame(struct call *call)
{
	call->frame.head = call->request->method == HTTP_HEAD;
	call->frame.problem = wants_problem(call);
	call->frame.origin = cors_allows(call);
	call->frame.varies = call->settings->cors_origins.count > 0;
}

size_t route_room(const struct route *route, const struct call *call)
{
	const struct route_method *method = route_method(route, call->request->method);
	size_t room = method && method->room ? method->room : HANDLER_ROOM;

	if (method && method->returns_body)
		room += call->body_length;
	if (method && method->measure)
		room += method->measure(call);
	if (method && method->events)
		room += array_room(call);
	return room + (call->frame.origin ? CORS_ROOM : 0);
}

static void answer_allow(const struct call *call, struct answer *answer, const char *allow)
{
	struct reply_field fields[] = {{"Allow", allow}, {NULL, NULL}};
	struct reply reply = {.status = 204, .fields = fields};

	answer->status = 204;
	reply_write(&answer->out, &call->frame, &reply);
}

static void answer_options(const struct route *route, const struct call *call,
                           struct answer *answer)
{
	if (cors_is_preflight(call))
		cors_preflight(call, answer, route->allow);
	else
		answer_allow(call, answer, route->allow);
}

void route_answer(const struct route *route, const struct call *call, struct answer *answer)
{
	enum http_method asked = call->request->method;
	const struct route_method *method = route_method(route, asked);
	const char *path = call->bytes + call->request->path.at;

	if (asked == HTTP_OPTIONS && call->request->path.length == 1 && *path == '*') {
		answer_allow(call, answer, ALL_ALLOW);
	} else if (call->denied) {
		auth_answer(call, answer, call->denied);
	} else if (!route) {
		answer_error(call, answer, 404, "not_found", "There is nothing at this path.",
		             NULL);
	} else if (asked == HTTP_OPTIONS) {
		answer_options(route, call, answer);
	} else if (!method) {
		struct reply_field fields[] = {{"Allow", route->allow}, {NULL, NULL}};
		answer_error(call, answer, 405, "method_not_allowed",
		             "The field Allow names the methods of this path.", fields);
	} else if (cors_is_foreign(call)) {
		answer_error(call, answer, 403, "foreign_origin",
		             "A page of another origin may not change anything here.", NULL);
	} else {
		method->handle(call, answer);
	}
}
