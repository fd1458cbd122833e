/* What a snapshot file holds; private to snapshot_write.c and snapshot_load.c. */
#ifndef TALLYD_LEDGER_SNAPSHOT_FORMAT_H
#define TALLYD_LEDGER_SNAPSHOT_FORMAT_H

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>

#define SNAPSHOT_MAGIC     UINT64_C(0x317364796c6c6174) /* "tallyds1" */
#define SNAPSHOT_VERSION   2
#define SNAPSHOT_NAME      "%016" PRIx64 ".snapshot"
#define SNAPSHOT_NAME_SIZE 32
#define SNAPSHOT_TEMPORARY "snapshot.tmp"
#define SNAPSHOT_BLOCK_MAX (1u << 22) /* bytes of a block's body */

enum snapshot_block_type {
	SNAPSHOT_HEADER = 1,
	SNAPSHOT_ACCOUNTS = 2,
	SNAPSHOT_TRAILER = 3,
	SNAPSHOT_IDS = 4,
	SNAPSHOT_HOLDS = 5,
	SNAPSHOT_COVERAGE = 6, /* struct coverage_part, ascending */
};

/*
 * The file is a sequence of blocks: one header, any number with accounts, ids, holds and coverage,
 * one trailer.
 */
struct snapshot_block {
	uint64_t checksum; /* XXH3 of the rest of the block, seeded with the checksum of the block
	                      before it; of the header with the journal's key */
	uint32_t length;   /* of the body, bytes, a multiple of 8 */
	uint32_t type;
};

struct snapshot_header {
	uint64_t magic;
	uint32_t version;
	uint32_t reserved;
	uint64_t start;
	uint64_t seal_to;
	uint64_t seal_hash;
	uint64_t taken_us;
};

struct snapshot_trailer {
	uint64_t accounts;
	uint64_t ids;
	uint64_t holds;
	uint64_t parts; /* of the coverage */
	uint64_t newest;
	uint64_t ids_lost_us; /* the greatest time of an id that is missing; 0: none is */
};

/* An account; padded to eight bytes. */
struct snapshot_account {
	uint64_t lsn;
	int64_t balance;
	int64_t held;
	int64_t floor;
	int64_t ceiling;
	uint64_t version;
	uint64_t created_us;
	uint64_t updated_us;
	uint32_t frozen;
	uint8_t name_length;
	char name[];
};

static inline uint32_t snapshot_account_size(uint32_t name_length)
{
	return ((uint32_t)offsetof(struct snapshot_account, name) + name_length + 7) & ~7u;
}

struct snapshot_id {
	uint64_t lsn;
	uint64_t key_low;
	uint64_t key_high;
	uint64_t time_us;
};

/* A hold: its id, then its account's name, behind it; padded to eight bytes. */
struct snapshot_hold {
	uint64_t lsn;
	int64_t amount;
	int64_t captured;
	uint64_t expires_us;
	uint64_t placed_us;
	uint64_t settled_us;
	uint64_t to_hash;
	uint8_t state;
	uint8_t id_length;
	uint8_t account_length;
	char text[];
};

static inline uint32_t snapshot_hold_size(uint32_t id_length, uint32_t account_length)
{
	return ((uint32_t)offsetof(struct snapshot_hold, text) + id_length + account_length + 7) &
	       ~7u;
}

#endif
