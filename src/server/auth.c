#include "auth.h"

#include <string.h>
#include <strings.h>

#include "routes.h"

#define SCHEME "Bearer" /* in any case (RFC 9110 11.1) */

static const struct denial missing = {
    .status = 401,
    .reason = "unauthorized",
    .detail = "This needs a token: Authorization: Bearer TOKEN.",
    .challenge = "Bearer realm=\"tallyd\"",
    .class = REFUSAL_UNAUTHORIZED,
};

static const struct denial invalid = {
    .status = 401,
    .reason = "unauthorized",
    .detail = "The token is not valid.",
    .challenge = "Bearer realm=\"tallyd\", error=\"invalid_token\"",
    .class = REFUSAL_UNAUTHORIZED,
};

static const struct denial forbidden = {
    .status = 403,
    .reason = "forbidden",
    .detail = "The token does not permit this.",
    .challenge = "Bearer realm=\"tallyd\", error=\"insufficient_scope\"",
    .class = REFUSAL_FORBIDDEN,
};

enum credentials auth_identify(const struct tokens *tokens, const struct http_request *request,
                               const char *bytes, const struct token **token)
{
	struct http_span field = request->field[HTTP_AUTHORIZATION];
	const char *value = bytes + field.at;
	size_t at = sizeof(SCHEME) - 1;

	*token = NULL;
	if (field.at == 0)
		return CREDENTIALS_NONE;
	if ((request->repeated & (1u << HTTP_AUTHORIZATION)) || field.length <= at ||
	    strncasecmp(value, SCHEME, at) != 0 || value[at] != ' ')
		return CREDENTIALS_UNKNOWN;
	while (at < field.length && value[at] == ' ')
		at++;
	*token = tokens_of_text(tokens, value + at, field.length - at);
	return *token ? CREDENTIALS_KNOWN : CREDENTIALS_UNKNOWN;
}

const struct denial *auth_denies(const struct call *call, const struct route_method *method)
{
	if (!call->guarded || call->request->method == HTTP_OPTIONS ||
	    (method && method->open && method->open(call)))
		return NULL;
	if (call->credentials == CREDENTIALS_NONE)
		return &missing;
	if (!call->token || token_is_over(call->token, call->now_us))
		return &invalid;
	if (method && ((method->scope && !(call->token->scopes & method->scope)) ||
	               (method->whole && call->token->prefix_length > 0)))
		return &forbidden;
	return NULL;
}

void auth_answer(const struct call *call, struct answer *answer, const struct denial *denial)
{
	const struct reply_field fields[] = {{"WWW-Authenticate", denial->challenge}, {NULL, NULL}};

	answer->refusal = denial->class;
	answer_error(call, answer, denial->status, denial->reason, denial->detail, fields);
}

bool auth_permits_account(const struct call *call, struct answer *answer, struct words name)
{
	if (token_covers(call->token, name))
		return true;
	auth_answer(call, answer, &forbidden);
	return false;
}

bool auth_covers(const struct token *token, const struct request *request)
{
	for (unsigned i = 0; token && i < request->legs; i++)
		if (!token_covers(token, request->leg[i].account))
			return false;
	return true;
}

void auth_confine(const struct token *token, struct request *request)
{
	request->within =
	    token ? (struct words){token->prefix, token->prefix_length} : (struct words){0};
}

bool auth_permits_request(const struct call *call, struct answer *answer, struct request *request)
{
	if (!auth_covers(call->token, request)) {
		answer->verdict = VERDICT_INVALID;
		auth_answer(call, answer, &forbidden);
		return false;
	}
	auth_confine(call->token, request);
	return true;
}
