/*
 * Tokens that a reload has taken away, for the workers that it retires: they have connections open,
 * and may open no file.
 */
#ifndef TALLYD_DAEMON_REVOKE_H
#define TALLYD_DAEMON_REVOKE_H

struct family;
struct tokens;

/*
 * Hands TOKENS, those that there are now, to all workers that are leaving; what they have that is
 * not among these is over (tokens_renew).  Who cannot be told ends: logged.
 */
void revoke_tokens(const struct tokens *tokens, const struct family *family);

#endif
