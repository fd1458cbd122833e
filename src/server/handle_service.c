/* What the service says of itself, and what helps to test it. */
#include <stdio.h>
#include <string.h>

#include "../wire/reason.h"
#include "console.h"
#include "handlers.h"

#define MEDIA_TYPE_MAX 128 /* bytes of a Content-Type that POST /echo gives back */

/* --- GET / and GET /healthz --- */

static const struct reply_field by_accept = {"Vary", "Accept"};

/* Is it a browser that asks?  Who names JSON and likes it as much gets that. */
bool about_is_page(const struct call *call)
{
	struct http_span accept = call->request->field[HTTP_ACCEPT];
	const char *value = call->bytes + accept.at;

	return accept.length > 0 && http_accepts(value, accept.length, "text/html") >
	                                http_accepts(value, accept.length, REPLY_JSON);
}

static void answer_console(const struct call *call, struct answer *answer)
{
	const struct reply_field fields[] = {by_accept,
	                                     {"Content-Security-Policy", console_policy},
	                                     {"X-Content-Type-Options", "nosniff"},
	                                     {"Referrer-Policy", "no-referrer"},
	                                     {"Cache-Control", "no-cache"},
	                                     {NULL, NULL}};
	const struct reply reply = {.status = 200,
	                            .content_type = "text/html; charset=utf-8",
	                            .body = console_page,
	                            .body_length = console_length,
	                            .fields = fields};

	answer->status = 200;
	reply_write(&answer->out, &call->frame, &reply);
}

static void answer_about(const struct call *call, struct answer *answer)
{
	const struct reply_field fields[] = {by_accept, {NULL, NULL}};
	char bytes[512];
	struct text body;
	uint64_t started = call->settings->started_us;
	uint64_t age_us = call->now_us > started ? call->now_us - started : 0;

	uint64_t forgotten;
	uint64_t kept_us = ledger_id_window(call->ledger, call->now_us, &forgotten);

	text_init(&body, bytes, sizeof(bytes));
	text_literal(&body, "{\"service\":\"tallyd\",\"version\":");
	text_json_string(&body, call->settings->version, strnlen(call->settings->version, 64));
	text_literal(&body, ",\"uptime\":");
	text_unsigned(&body, age_us / 1000000);
	text_literal(&body, ",\"workers\":");
	text_unsigned(&body, call->settings->workers);
	text_literal(&body, ",\"id_window\":");
	text_unsigned(&body, kept_us / 1000000);
	text_literal(&body, ",\"ids_forgotten\":");
	text_unsigned(&body, forgotten);
	text_literal(&body, "}");
	answer->status = 200;
	reply_write(&answer->out, &call->frame,
	            &(struct reply){.status = 200,
	                            .content_type = REPLY_JSON,
	                            .body = body.bytes,
	                            .body_length = body.length,
	                            .fields = fields});
}

void handle_about(const struct call *call, struct answer *answer)
{
	if (about_is_page(call))
		answer_console(call, answer);
	else
		answer_about(call, answer);
}

static void answer_unwell(const struct call *call, struct answer *answer, const char *reason,
                          const char *detail, unsigned seconds)
{
	char value[16];
	struct reply_field fields[] = {{"Retry-After", value}, {NULL, NULL}};
	snprintf(value, sizeof(value), "%u", seconds);
	answer_error(call, answer, 503, reason, detail, fields);
}

void handle_health(const struct call *call, struct answer *answer)
{
	static const char fine[] = "{\"status\":\"ok\"}";
	enum outcome health = ledger_health(call->ledger);

	if (call->draining) {
		answer_unwell(call, answer, "draining", "The daemon is stopping.", 1);
	} else if (health == OUTCOME_ACCEPTED) {
		answer_json(call, answer, fine, sizeof(fine) - 1);
	} else if (health == OUTCOME_POISONED) {
		answer->poisoned = true;
	} else {
		const struct reason *reason = reason_of(health);
		answer_unwell(call, answer, reason->word, reason->detail,
		              ledger_retry_after(call->ledger));
	}
}

/* --- POST /echo and the diagnostics --- */

/* The request's own type, or the type of anything if it has none or an unusual one. */
static const char *echo_type(const struct call *call, char type[MEDIA_TYPE_MAX + 1])
{
	struct http_span given = call->request->field[HTTP_CONTENT_TYPE];
	if (given.length == 0 || given.length > MEDIA_TYPE_MAX)
		return "application/octet-stream";
	memcpy(type, call->bytes + given.at, given.length);
	type[given.length] = '\0';
	return type;
}

void handle_echo(const struct call *call, struct answer *answer)
{
	char type[MEDIA_TYPE_MAX + 1];
	struct reply reply = {.status = 200,
	                      .content_type = echo_type(call, type),
	                      .body = call->body,
	                      .body_length = call->body_length};
	answer->status = 200;
	reply_write(&answer->out, &call->frame, &reply);
}

void handle_fast(const struct call *call, struct answer *answer)
{
	static const char body[] = "{\"status\":\"ok\"}";
	answer_json(call, answer, body, sizeof(body) - 1);
}

/* The parameter ms in *MS; false if it is absent or not a number up to HANDLER_SLEEP_MAX. */
static bool read_ms(const struct call *call, unsigned *ms)
{
	struct http_span query = call->request->query;
	char digits[5];
	long length =
	    http_query(call->bytes + query.at, query.length, "ms", digits, sizeof(digits));
	*ms = 0;
	if (length < 1)
		return false;
	for (long i = 0; i < length; i++) {
		if (digits[i] < '0' || digits[i] > '9')
			return false;
		*ms = *ms * 10 + (unsigned)(digits[i] - '0');
	}
	return *ms <= HANDLER_SLEEP_MAX;
}

void handle_sleep(const struct call *call, struct answer *answer)
{
	unsigned ms;
	char body[64];
	if (!read_ms(call, &ms)) {
		answer_error(call, answer, 400, "invalid_ms",
		             "The parameter ms is a number of milliseconds from 0 to 60000.", NULL);
		return;
	}
	if (!call->resumed && ms > 0) {
		answer->pause_ms = ms;
		return;
	}
	int length = snprintf(body, sizeof(body), "{\"slept_ms\":%u}", ms);
	answer_json(call, answer, body, (size_t)length);
}
