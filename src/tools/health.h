/*
 * What is wrong with a running daemon, by a look at it.
 */
#ifndef TALLYD_TOOLS_HEALTH_H
#define TALLYD_TOOLS_HEALTH_H

#include <stdbool.h>
#include <stddef.h>

#include "look.h"

struct json_out;

#define HEALTH_PROBLEMS_MAX 24
#define HEALTH_TEXT_MAX     160

struct health_problem {
	bool fatal;         /* while it lasts, no update is taken, or none is answered */
	const char *reason; /* a word that stays: a constant */
	char text[HEALTH_TEXT_MAX];
};

struct health {
	bool takes_updates;
	size_t problems; /* the fatal ones first; at most HEALTH_PROBLEMS_MAX */
	struct health_problem problem[HEALTH_PROBLEMS_MAX];
};

/* Judges LOOK, its locks included if they were looked at. */
void health_judge(const struct look *look, struct health *health);

/* HEALTH as members of the object that is open. */
void health_tell_json(struct json_out *out, const struct health *health);

#endif
