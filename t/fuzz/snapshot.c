/*
 * The loader of snapshots: the input is a byte of flags and a snapshot's file, of which the harness
 * puts right what the flags say.  What is damaged leaves the tables empty; what is loaded is what
 * the file counts, is loaded again the same, and outlives being written and read once more.
 */
#include "tables.h"

#include "../../src/ledger/coverage.h"
#include "../../src/ledger/snapshot.h"
#include "../../src/ledger/snapshot_format.h"

#define LENGTH_MAX 16384
#define START      UINT64_C(0x1000)
#define NEWEST_MAX (UINT64_C(1) << 40) /* a snapshot up to here is written again */

enum fix { FIX_CHECKSUM = 1, FIX_HEADER = 2, FIX_COUNTS = 4, FIX_ALL = 7 };

static struct place place;
static char directory[2][FIXTURE_PATH + 16]; /* of the input, of what is written again */
static char path[FIXTURE_PATH + 64];
static struct tables tables[2];

static void remove_place(void)
{
	directory_remove(directory[0]);
	directory_remove(directory[1]);
	place_remove(&place);
}

static void begin(void)
{
	if (tables[0].region != NULL)
		return;
	place_make(&place);
	atexit(remove_place);
	for (size_t i = 0; i < 2; i++) {
		snprintf(directory[i], sizeof directory[i], "%s/%zu", place.root, i);
		must(mkdir(directory[i], 0700) == 0, "mkdir");
		tables_fresh(&tables[i]);
	}
	snprintf(path, sizeof path, "%s/" SNAPSHOT_NAME, directory[0], START);
}

/* ---- putting it right */

static size_t block_size(const unsigned char *bytes, size_t left)
{
	const struct snapshot_block *block = (const void *)bytes;

	if (left < sizeof *block || block->length % 8 != 0 || block->length > left - sizeof *block)
		return 0;
	return sizeof *block + block->length;
}

/*
 * The number of entries in the LENGTH bytes of BODY, as their own lengths say; *WHOLE becomes false
 * unless the last of them ends where the body does.
 */
static uint64_t count_entries(const unsigned char *body, size_t length, bool holds, bool *whole)
{
	size_t least = holds ? snapshot_hold_size(1, 1) : snapshot_account_size(1);
	uint64_t count = 0;
	size_t at = 0;

	while (at < length && length - at >= least) {
		const struct snapshot_account *account = (const void *)(body + at);
		const struct snapshot_hold *hold = (const void *)(body + at);

		at += holds ? snapshot_hold_size(hold->id_length, hold->account_length)
		            : snapshot_account_size(account->name_length);
		count++;
	}
	*whole = *whole && at == length;
	return count;
}

static void count(const struct snapshot_block *block, struct snapshot_trailer *counts, bool *whole)
{
	const unsigned char *body = (const void *)(block + 1);

	switch (block->type) {
	case SNAPSHOT_ACCOUNTS:
		counts->accounts += count_entries(body, block->length, false, whole);
		break;
	case SNAPSHOT_HOLDS:
		counts->holds += count_entries(body, block->length, true, whole);
		break;
	case SNAPSHOT_IDS:
		counts->ids += block->length / sizeof(struct snapshot_id);
		break;
	case SNAPSHOT_COVERAGE:
		counts->parts += block->length / sizeof(struct coverage_part);
		break;
	}
}

static void fix_header(unsigned char *bytes)
{
	struct snapshot_block *block = (void *)bytes;
	struct snapshot_header *header = (void *)(block + 1);

	if (block->length != sizeof *header)
		return;
	block->type = SNAPSHOT_HEADER;
	header->magic = SNAPSHOT_MAGIC;
	header->version = SNAPSHOT_VERSION;
	header->start = START;
}

static void fix_trailer(struct snapshot_block *block, const struct snapshot_trailer *counts)
{
	struct snapshot_trailer *trailer = (void *)(block + 1);

	if (block->length != sizeof *trailer)
		return;
	trailer->accounts = counts->accounts;
	trailer->ids = counts->ids;
	trailer->holds = counts->holds;
	trailer->parts = counts->parts;
}

/* Returns whether every block holds whole entries. */
static bool fix(unsigned char *bytes, size_t length, unsigned flags)
{
	struct snapshot_trailer counts = {0};
	uint64_t chain = TABLES_KEY;
	bool whole = true;
	size_t size;

	for (size_t at = 0; (size = block_size(bytes + at, length - at)) != 0; at += size) {
		struct snapshot_block *block = (void *)(bytes + at);

		if (at == 0 && (flags & FIX_HEADER))
			fix_header(bytes);
		count(block, &counts, &whole);
		if (block->type == SNAPSHOT_TRAILER && (flags & FIX_COUNTS))
			fix_trailer(block, &counts);
		if (flags & FIX_CHECKSUM)
			block->checksum =
			    XXH3_64bits_withSeed(bytes + at + sizeof block->checksum,
			                         size - sizeof block->checksum, chain);
		chain = block->checksum;
	}
	return whole;
}

static void put_file(const unsigned char *bytes, size_t length)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	must(fd >= 0 && pwrite(fd, bytes, length, 0) == (ssize_t)length, path);
	close(fd);
}

/* ---- what is loaded */

static enum snapshot_status load(struct tables *into, const char *from, uint64_t start,
                                 struct snapshot *snapshot)
{
	struct coverage coverage = {0};
	enum snapshot_status status =
	    snapshot_load(tables_fresh(into), from, start, TABLES_KEY, snapshot, &coverage);

	FUZZ_HOLDS(status == SNAPSHOT_OK || status == SNAPSHOT_BAD || status == SNAPSHOT_FULL,
	           "status %d: %s", (int)status, strerror(errno));
	if (status == SNAPSHOT_BAD)
		FUZZ_HOLDS(coverage.count == 0 && count_accounts(into->region) == 0 &&
		               count_ids(into->region) == 0 && count_holds(into->region) == 0 &&
		               atomic_load(&region_marks(into->region)->ids_lost_us) == 0,
		           "something of a bad snapshot stays");
	for (size_t i = 1; i < coverage.count; i++)
		FUZZ_HOLDS(coverage.part[i].table > coverage.part[i - 1].table ||
		               coverage.part[i].first > coverage.part[i - 1].last,
		           "parts of the coverage overlap");
	coverage_free(&coverage);
	return status;
}

static bool at_once(struct region *region, uint64_t lsn)
{
	(void)region;
	(void)lsn;
	return true;
}

/* Written from the tables and read into others it is the same. */
static void write_again(struct region *region, uint64_t newest)
{
	struct snapshot written, read;
	uint64_t start = (newest & ~UINT64_C(7)) + SEGMENT_HEAD;

	region_begin(region, start, start + FIXTURE_SEGMENT, start + FIXTURE_SEGMENT);
	must(snapshot_write(region, directory[1], TABLES_KEY, at_once, &written) == SNAPSHOT_OK,
	     "snapshot_write");
	FUZZ_HOLDS(load(&tables[1], directory[1], start, &read) == SNAPSHOT_OK,
	           "what was written cannot be loaded");
	FUZZ_HOLDS(table_same(region, tables[1].region), "written and loaded it is another one");
	char name[FIXTURE_PATH + 64];
	snprintf(name, sizeof name, "%s/" SNAPSHOT_NAME, directory[1], start);
	must(unlink(name) == 0, name);
}

static void check_loaded(const struct snapshot *snapshot)
{
	struct region *region = tables[0].region;
	struct snapshot other;

	FUZZ_HOLDS(snapshot_peek(directory[0], START, TABLES_KEY, &other) == SNAPSHOT_OK &&
	               other.start == START && other.seal_to == snapshot->seal_to &&
	               other.seal_hash == snapshot->seal_hash &&
	               other.taken_us == snapshot->taken_us,
	           "its header says something else");
	FUZZ_HOLDS(count_accounts(region) == snapshot->accounts &&
	               count_ids(region) + snapshot->ids_left_out <= snapshot->ids &&
	               count_holds(region) <= snapshot->holds,
	           "there is more than was counted");
	tables_check_accounts(region);
	tables_check_holds(region);
	FUZZ_HOLDS(load(&tables[1], directory[0], START, &other) == SNAPSHOT_OK &&
	               table_same(region, tables[1].region),
	           "loaded again it is another one");
	if (snapshot->newest < NEWEST_MAX)
		write_again(region, snapshot->newest);
}

static void judge(const uint8_t *bytes, size_t length)
{
	struct snapshot snapshot;
	uint64_t start;

	begin();
	if (length == 0)
		return;
	unsigned char *file = fuzz_copy(bytes + 1, length - 1);
	bool whole = fix(file, length - 1, bytes[0]);
	put_file(file, length - 1);
	free(file);
	FUZZ_HOLDS(snapshot_find(directory[0], UINT64_MAX, &start) == SNAPSHOT_OK && start == START,
	           "it is not found");
	switch (load(&tables[0], directory[0], START, &snapshot)) {
	case SNAPSHOT_OK:
		FUZZ_HOLDS(whole, "an entry reaches beyond its block");
		check_loaded(&snapshot);
		break;
	case SNAPSHOT_FULL:
		FUZZ_HOLDS(snapshot.full != NULL, "what is full is not said");
		break;
	default:
		break;
	}
}

/* ---- seeds */

static void take_snapshot(fuzz_take *take, size_t steps, uint64_t random)
{
	static unsigned char input[LENGTH_MAX];
	struct place made;
	struct run run;
	struct traffic traffic = {.run = &run, .random = random};
	struct snapshot snapshot;
	struct image_file file;

	place_make(&made);
	tables_run(&run, &made);
	traffic_run(&traffic, steps);
	must(snapshot_write(run.region, made.snapshots, TABLES_KEY, at_once, &snapshot) ==
	         SNAPSHOT_OK,
	     "snapshot_write");
	snprintf(file.path, sizeof file.path, "%s/" SNAPSHOT_NAME, made.snapshots, snapshot.start);
	file_read(&file);
	if (file.size < sizeof input) {
		/* The time when it was taken would make it another seed each time. */
		struct snapshot_header *header =
		    (void *)(file.bytes + sizeof(struct snapshot_block));
		header->taken_us = 1;
		input[0] = FIX_ALL;
		memcpy(input + 1, file.bytes, file.size);
		take(input, 1 + file.size);
	}
	free(file.bytes);
	run_leave(&run);
	place_remove(&made);
}

/* ---- snapshots of more than the tables have room for, which the fuzzer would hardly make */

#define MANY_ACCOUNTS 180
#define MANY_IDS      480
#define MANY_HOLDS    170

struct builder {
	_Alignas(8) unsigned char bytes[LENGTH_MAX];
	size_t length;
};

/* A block of TYPE with LENGTH bytes of zero for its body, which is returned. */
static void *add_block(struct builder *builder, enum snapshot_block_type type, size_t length)
{
	struct snapshot_block *block = (void *)(builder->bytes + builder->length);

	memset(block, 0, sizeof *block + length);
	block->type = type;
	block->length = (uint32_t)length;
	builder->length += sizeof *block + length;
	return block + 1;
}

static void begin_snapshot(struct builder *builder)
{
	builder->length = 0;
	add_block(builder, SNAPSHOT_HEADER, sizeof(struct snapshot_header));
}

static void end_snapshot(struct builder *builder, fuzz_take *take)
{
	static unsigned char input[1 + LENGTH_MAX];
	struct snapshot_trailer *trailer =
	    add_block(builder, SNAPSHOT_TRAILER, sizeof(struct snapshot_trailer));

	trailer->newest = 1;
	input[0] = FIX_ALL;
	memcpy(input + 1, builder->bytes, builder->length);
	take(input, 1 + builder->length);
}

static void take_many_accounts(fuzz_take *take, struct builder *builder)
{
	uint32_t size = snapshot_account_size(2);

	begin_snapshot(builder);
	unsigned char *at = add_block(builder, SNAPSHOT_ACCOUNTS, (size_t)size * MANY_ACCOUNTS);
	for (unsigned i = 0; i < MANY_ACCOUNTS; i++, at += size) {
		struct snapshot_account *account = (void *)at;
		*account = (struct snapshot_account){.lsn = 1, .version = 1, .name_length = 2};
		account->name[0] = (char)('a' + i % 16);
		account->name[1] = (char)('a' + i / 16);
	}
	end_snapshot(builder, take);
}

static void take_many_ids(fuzz_take *take, struct builder *builder)
{
	begin_snapshot(builder);
	struct snapshot_id *id =
	    add_block(builder, SNAPSHOT_IDS, MANY_IDS * sizeof(struct snapshot_id));
	for (uint64_t i = 0; i < MANY_IDS; i++)
		id[i] = (struct snapshot_id){
		    .lsn = 1, .key_low = fuzz_hash(&i, sizeof i), .key_high = i + 1, .time_us = i};
	end_snapshot(builder, take);
}

static void take_many_holds(fuzz_take *take, struct builder *builder)
{
	uint32_t size = snapshot_hold_size(2, 1);

	begin_snapshot(builder);
	unsigned char *at = add_block(builder, SNAPSHOT_HOLDS, (size_t)size * MANY_HOLDS);
	for (unsigned i = 0; i < MANY_HOLDS; i++, at += size) {
		struct snapshot_hold *hold = (void *)at;
		*hold = (struct snapshot_hold){
		    .lsn = 1, .amount = 1, .state = HOLD_OPEN, .id_length = 2, .account_length = 1};
		hold->text[0] = (char)('a' + i % 16);
		hold->text[1] = (char)('a' + i / 16);
		hold->text[2] = 'x';
	}
	end_snapshot(builder, take);
}

/* ---- names and ids as long as they may be and longer, and other limits */

static void take_one_account(fuzz_take *take, struct builder *builder, uint8_t name_length,
                             uint32_t frozen)
{
	begin_snapshot(builder);
	struct snapshot_account *account =
	    add_block(builder, SNAPSHOT_ACCOUNTS, snapshot_account_size(name_length));
	*account = (struct snapshot_account){
	    .lsn = 1, .version = 1, .frozen = frozen, .name_length = name_length};
	memset(account->name, 'n', name_length);
	end_snapshot(builder, take);
}

static void take_one_hold(fuzz_take *take, struct builder *builder, uint8_t id_length,
                          uint8_t account_length)
{
	begin_snapshot(builder);
	struct snapshot_hold *hold =
	    add_block(builder, SNAPSHOT_HOLDS, snapshot_hold_size(id_length, account_length));
	*hold = (struct snapshot_hold){.lsn = 1,
	                               .amount = 1,
	                               .state = HOLD_OPEN,
	                               .id_length = id_length,
	                               .account_length = account_length};
	memset(hold->text, 'h', (size_t)id_length + account_length);
	end_snapshot(builder, take);
}

static void take_lengths(fuzz_take *take, struct builder *builder)
{
	static const uint8_t lengths[] = {1,
	                                  TABLE_NAME_INLINE,
	                                  TABLE_NAME_INLINE + 1,
	                                  ACCOUNT_NAME_MAX,
	                                  ACCOUNT_NAME_MAX + 1,
	                                  ID_MAX,
	                                  ID_MAX + 1,
	                                  UINT8_MAX};

	for (size_t i = 0; i < sizeof lengths; i++) {
		take_one_account(take, builder, lengths[i], FROZEN_NONE);
		take_one_hold(take, builder, lengths[i], 1);
		take_one_hold(take, builder, 1, lengths[i]);
	}
	take_one_account(take, builder, 1, FROZEN_ALL);
	take_one_account(take, builder, 1, FROZEN_ALL + 1);
}

static void seeds(fuzz_take *take)
{
	static struct builder builder;

	take_lengths(take, &builder);
	take_many_accounts(take, &builder);
	take_many_ids(take, &builder);
	take_many_holds(take, &builder);
	for (uint64_t i = 0; i < 8; i++)
		take_snapshot(take, (size_t)(i * i), 40 + i);
}

/* Where a block with a body begins, drawn; its size in *SIZE, 0 if there is none. */
static size_t draw_block(const uint8_t *bytes, size_t length, uint64_t *random, size_t *size)
{
	size_t begin[LENGTH_MAX / sizeof(struct snapshot_block)];
	size_t count = 0;
	struct snapshot_block block;

	for (size_t at = 1; at <= length && length - at >= sizeof block;) {
		memcpy(&block, bytes + at, sizeof block);
		if (block.length % 8 != 0 || block.length > length - at - sizeof block)
			break;
		if (block.length > 0)
			begin[count++] = at;
		at += sizeof block + block.length;
	}
	*size = 0;
	if (count == 0)
		return 0;
	size_t at = begin[fuzz_next(random) % count];
	memcpy(&block, bytes + at, sizeof block);
	*size = sizeof block + block.length;
	return at;
}

static size_t mutate(uint8_t *bytes, size_t length, size_t room, uint64_t random)
{
	static uint8_t copy[LENGTH_MAX];
	const size_t head = sizeof(struct snapshot_block);
	size_t size;
	size_t at = draw_block(bytes, length, &random, &size);

	if (at == 0)
		return 0;
	switch (fuzz_next(&random) % 16) {
	case 0: /* it goes */
		memmove(bytes + at, bytes + at + size, length - at - size);
		return length - size;
	case 1: /* it comes twice */
		if (size > room - length || size > sizeof copy)
			return 0;
		memcpy(copy, bytes + at, size);
		memmove(bytes + at + size, bytes + at, length - at);
		memcpy(bytes + at, copy, size);
		return length + size;
	case 2: /* what is put right */
		bytes[0] ^= (uint8_t)(1u << fuzz_next(&random) % 3);
		return length;
	default:
		fuzz_change_word(bytes, length, at + head, size - head, &random);
		return length;
	}
}

const struct fuzz_target fuzz_snapshot = {
    .name = "snapshot", .length_max = LENGTH_MAX, .judge = judge, .seeds = seeds, .mutate = mutate};
