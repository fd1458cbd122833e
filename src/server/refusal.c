#include <inttypes.h>

#include "refusal.h"

struct class
{
	enum log_level level;
	const char *what;
	const char *remedy;
};

static const struct class classes[REFUSAL_CLASSES] = {
    [REFUSAL_MALFORMED] = {LOG_LEVEL_INFO, "malformed requests",
                           "the client must speak the listener's protocol"},
    [REFUSAL_INVALID] = {LOG_LEVEL_INFO, "invalid operations",
                         "the answer's reason and detail tell the client what to change"},
    [REFUSAL_TIMED_OUT] = {LOG_LEVEL_INFO, "clients too slow",
                           "see header_timeout, body_timeout, body_rate and write_timeout"},
    [REFUSAL_BUSY] = {LOG_LEVEL_WARNING, "out of buffer memory", "raise buffer_memory"},
    [REFUSAL_QUEUE_FULL] = {LOG_LEVEL_WARNING, "journal queue full",
                            "the disk is slower than the clients; see queue_events"},
    [REFUSAL_DISK_FULL] = {LOG_LEVEL_ERROR, "disk full", "make room on the disk of the data"},
    [REFUSAL_TABLE_FULL] = {LOG_LEVEL_ERROR, "account table full",
                            "raise max_accounts and restart"},
    [REFUSAL_HOLDS_FULL] = {LOG_LEVEL_ERROR, "hold table full", "raise max_holds and restart"},
    [REFUSAL_JOURNAL_FAILED] = {LOG_LEVEL_ERROR, "journal failed",
                                "the disk has failed; the daemon is going down"},
    [REFUSAL_FORGOTTEN] = {LOG_LEVEL_WARNING, "ids whose records are gone",
                           "the clients retry too late: see id_window, max_ids and journal_keep"},
    [REFUSAL_READ_FAILED] = {LOG_LEVEL_ERROR, "the journal cannot be read",
                             "check the disk, then run tallyctl journal check"},
    [REFUSAL_UNAUTHORIZED] = {LOG_LEVEL_NOTICE, "clients without a valid token",
                              "see auth_file, and tallyctl token"},
    [REFUSAL_FORBIDDEN] = {LOG_LEVEL_NOTICE, "what a token does not permit",
                           "its scopes and its prefix stand in auth_file"},
    [REFUSAL_STRANGER] = {LOG_LEVEL_NOTICE, "users who are not served",
                          "see allow_users and allow_groups of the listener"},
    [REFUSAL_CHAT_FULL] = {LOG_LEVEL_WARNING, "the chat is full", "some of its clients must leave"},
    [REFUSAL_PAUSED] = {LOG_LEVEL_WARNING, "not accepting connections",
                        "raise max_connections or the limit of open files"},
    [REFUSAL_NOT_PROXY] = {LOG_LEVEL_WARNING, "connections past the proxy",
                           "only the addresses of proxy_from may connect to this listener"},
    [REFUSAL_HEADER] = {LOG_LEVEL_WARNING, "connections without a PROXY header",
                        "let the proxy send one, or take its address out of proxy_from"},
    [REFUSAL_MANY] = {LOG_LEVEL_INFO, "clients with too many connections",
                      "see max_connections_per_ip"},
    [REFUSAL_ADDRESSES] = {LOG_LEVEL_ERROR, "too many clients at a time to count each",
                           "raise max_addresses and restart"},
};

void refusal_note(struct refusals *refusals, enum refusal class, double now, const char *detail)
{
	uint64_t count;
	if (class == REFUSAL_NONE || !log_limited(&refusals->limits[class], now, &count))
		return;
	log_line(classes[class].level, "refused: %s (%" PRIu64 " since the last such line): %s; %s",
	         classes[class].what, count, detail, classes[class].remedy);
}
