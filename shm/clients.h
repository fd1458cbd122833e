/*
 * How many connections each client has, over all processes, so that no client gets more than its
 * share.  Each process slot has a table of its own, which its owner alone writes: nothing is
 * locked, and who dies leaves no lock and no count that others would have to mend; the master
 * empties the table when it has buried the owner.
 *
 * Who admits a client first adds it in the own table and then sums over all of them, both
 * sequentially consistent: of two that do so at once the later sees the earlier.  So the limit is
 * never exceeded; at worst both see each other, and both are refused.
 */
#ifndef TALLYD_SHM_CLIENTS_H
#define TALLYD_SHM_CLIENTS_H

#include <stdint.h>

struct region;

#define CLIENTS_COUNT_MAX 1000000 /* connections of a client in one process */

enum clients_verdict {
	CLIENTS_ADMITTED, /* and counted, until clients_leave */
	CLIENTS_MANY,     /* it has as many as it may have; nothing has changed */
	CLIENTS_FULL,     /* this process counts max_addresses others; nothing has changed */
};

/*
 * One more connection to this process (region_enter) of CLIENT, any number that stands for it.  It
 * may have MOST in all processes together; 0: any number.
 */
enum clients_verdict clients_enter(struct region *region, uint64_t client, uint32_t most);

/* One that was admitted here has ended. */
void clients_leave(struct region *region, uint64_t client);

/* Connections of CLIENT in all processes. */
uint64_t clients_count(const struct region *region, uint64_t client);

/* Different clients that this process counts just now. */
uint32_t clients_known(const struct region *region);

/* The master: the owner of process slot SLOT is dead, and with it all its connections. */
void clients_bury(struct region *region, uint32_t slot);

#endif
