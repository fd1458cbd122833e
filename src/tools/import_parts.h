/*
 * What the files of tallyctl import share; nobody else includes it.  import.c is the command,
 * import_read.c takes lines, import_send.c puts them into blocks, sends those and hears what became
 * of them; import_accounts.c does that for accounts, step by step; import_shun.c knows those that
 * were refused; import_ids.c sees whether the daemon can remember that many ids.
 */
#ifndef TALLYD_TOOLS_IMPORT_PARTS_H
#define TALLYD_TOOLS_IMPORT_PARTS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "command.h"
#include "flow.h"
#include "import_line.h"
#include "import_tally.h"

#define BLOCK_LINES    FLOW_OPERATIONS
#define BLOCK_TEXT_MAX (512 * 1024) /* bytes of the lines of a block */
#define INPUT_SIZE     65536

/* What is done for a line: an event has one step, an account and a hold have several. */
enum step { STEP_CREATE, STEP_STATEMENT, STEP_BALANCE, STEP_LIMITS, STEP_HOLD, STEP_LOOK };

/* An operation's tag: its block, or DEFERRED_TAG, its step and its line there. */
#define DEFERRED_TAG 255u

/* A line that is under way, or waits for others. */
struct item {
	uint64_t number;
	uint32_t at, length; /* of its text */
	bool fresh;          /* something of it was new */
	bool failed, unknown;
	bool reused; /* a hold whose id is taken, perhaps by itself */

	/* of an account (import_accounts.c) */
	enum step doubted; /* what the looks at its statement are to prove */
	bool looks;        /* they go on */
	bool balanced;     /* the statement shows that it has its balance */
	bool limited;      /* and its limits */
	uint32_t looked;
	uint64_t newest; /* version at the first look */
	uint64_t before; /* LSN that the next look begins at; 0: the newest */
	char reason[FLOW_REASON_SIZE];
};

/* Lines of one kind that are worked on together. */
struct block {
	enum import_type type;
	bool unsafe;
	uint32_t count;
	uint32_t used;
	uint32_t pending; /* operations of it that are not answered */
	struct item item[BLOCK_LINES];
	char text[BLOCK_TEXT_MAX];
};

/* An account that gets its limits last. */
struct deferred {
	uint64_t number;
	bool fresh, failed;
	char *line;
};

struct import {
	const struct session *session;
	const char *batch;
	bool keep_going, no_resume, once;
	FILE *rejects;
	const char *rejects_name;
	int fd;
	struct flow *flow;
	struct tally tally;

	/* the export that is read */
	bool in_export, ended;
	struct import_origin origin;
	uint64_t accounts, holds, ids;

	/* ids of events (import_ids.c) */
	bool counted;           /* the input was looked through: */
	uint64_t ahead;         /* events with ids in it */
	uint64_t named;         /* that were read since */
	uint64_t ids_limit;     /* that the daemon remembers; 0: not known */
	double ids_began;       /* seconds after the import itself */
	uint64_t ids_forgotten; /* by it, when this began */

	/* reading */
	char input[INPUT_SIZE];
	size_t input_at, input_end;
	char line[IMPORT_LINE_MAX + 1];
	size_t line_length;
	bool line_long;

	/* block[] are under way in turn: one for each burst, and the one that is filled */
	uint32_t filling;
	struct block *block[FLOW_DEPTH + 1];

	size_t deferred_count, deferred_room;
	struct deferred *deferred;

	/* hashes of the names of accounts that were refused (import_shun.c) */
	size_t shunned_count, shunned_room;
	uint64_t *shunned;
	bool shunned_in_order;

	bool anything; /* a line that is not empty was read */
	bool stop;
	int status;
	char detail[512];
};

/* --- import.c --- */

/* Nothing more is begun: the command will end with STATUS and DETAIL, if it is the first to say so.
 */
void import_give_up(struct import *import, int status, const char *detail);

/* The flow will take no more: gives up.  True, for those who stop then. */
bool import_flow_broke(struct import *import);

/* --- import_read.c --- */

/*
 * Looks through a regular file: has it lines that cannot be sent, and how many ids?  The status,
 * said.
 */
int import_look_ahead(struct import *import);

/* All lines, up to the end of the input or until it is given up. */
void import_take_all(struct import *import);

/* --- import_send.c --- */

/* The line that was read, of TYPE, joins the block that is being filled.  UNSAFE: it has no id. */
void import_add(struct import *import, enum import_type type, bool unsafe);

/* Sends the block that is being filled. */
void import_send_block(struct import *import);

/* Writes a line that was refused to where those go. */
void import_reject(struct import *import, const char *line, size_t length);

/* Microseconds since 1970. */
uint64_t import_wall_us(void);

/* What became of a line, from one answer; said and counted when it is through. */
void import_note(struct item *item, const struct flow_answer *answer);
void import_settle(struct import *import, const struct block *block, const struct item *item);

/* The tag of an operation. */
uint64_t import_tag(uint32_t block, enum step step, size_t index);

/* A burst with room, BURST (NULL: none) sent if it has none; NULL: the flow has ended. */
struct burst *import_room(struct import *import, struct burst *burst, size_t length);

/* What the flow calls (struct flow_calls). */
void import_take(void *context, uint64_t tag, const struct flow_answer *answer);
void import_tick(void *context);

/* --- import_ids.c --- */

/* Before anything is sent: are there more ids than the daemon remembers?  The status, said. */
int import_check_ids(struct import *import);

/* An event with an id was read. */
void import_count_id(struct import *import);

/* At the end: are ids of this import forgotten already?  Gives up if so. */
void import_check_ids_again(struct import *import);

/* --- import_shun.c --- */

/* The account NAME, as the export writes it, was refused.  False: given up. */
bool import_shun(struct import *import, struct slice name);

/* Was it? */
bool import_is_shunned(struct import *import, struct slice name);

/* --- import_accounts.c --- */

/* All steps of the accounts of block NUMBER; false: the flow has ended, or it is given up. */
bool import_send_accounts(struct import *import, uint32_t number);

/* The accounts whose limits come last, when all holds are there. */
void import_send_deferred(struct import *import);

/* An answer to a step of the account ITEM of BLOCK, or to the limits of deferred account INDEX. */
void import_take_account(struct import *import, const struct block *block, struct item *item,
                         enum step step, const struct flow_answer *answer);
void import_take_deferred(struct import *import, size_t index, const struct flow_answer *answer);

#endif
