/*
 * Who speaks, by the token that he presents (RFC 6750), and what he may.  What is denied is denied
 * before anything is looked at, so that the answer says nothing of what there is.
 */
#ifndef TALLYD_SERVER_AUTH_H
#define TALLYD_SERVER_AUTH_H

#include <stdbool.h>

#include "../wire/http.h"
#include "../wire/token.h"
#include "handlers.h"
#include "refusal.h"

struct route_method;

/* What a request says of who speaks. */
enum credentials {
	CREDENTIALS_NONE,
	CREDENTIALS_UNKNOWN, /* they cannot be read, or are nobody's */
	CREDENTIALS_KNOWN,
};

/* An answer to who may not.  Constants. */
struct denial {
	unsigned status; /* 401 or 403 */
	const char *reason;
	const char *detail;
	const char *challenge; /* WWW-Authenticate (RFC 9110 11.6.1, RFC 6750 3); NULL: none */
	enum refusal class;
};

/*
 * Reads Authorization of REQUEST, whose first byte is BYTES.  *TOKEN is whose it is among TOKENS,
 * over or not, if CREDENTIALS_KNOWN; else NULL.
 */
enum credentials auth_identify(const struct tokens *tokens, const struct http_request *request,
                               const char *bytes, const struct token **token);

/* What CALL is denied on a route that has METHOD for it (NULL: none), or NULL. */
const struct denial *auth_denies(const struct call *call, const struct route_method *method);

/* Answers DENIAL. */
void auth_answer(const struct call *call, struct answer *answer, const struct denial *denial);

/*
 * May CALL touch the account NAME, or all that REQUEST names?  False: answered, 403.  REQUEST is
 * confined to what its token covers, so that the ledger does not say more than there is to him.
 */
bool auth_permits_account(const struct call *call, struct answer *answer, struct words name);
bool auth_permits_request(const struct call *call, struct answer *answer, struct request *request);

/* Does TOKEN (NULL: anybody) cover all accounts that REQUEST names? */
bool auth_covers(const struct token *token, const struct request *request);

/* Confines REQUEST to what TOKEN (NULL: anybody) covers. */
void auth_confine(const struct token *token, struct request *request);

#endif
