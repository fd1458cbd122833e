#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../base/clock.h"
#include "../../wire/text.h"
#include "load.h"

/* ---- drawing */

static uint32_t draw_account(struct load *load)
{
	if (load->options->zipf > 0)
		return zipf_draw(&load->zipf, &load->random);
	return random_below(&load->random, load->options->accounts);
}

static int32_t draw_amount(struct load *load)
{
	int32_t least = load->options->amount_least, most = load->options->amount_most;

	if (least == most)
		return least;
	return least + (int32_t)random_below(&load->random, (uint32_t)(most - least) + 1);
}

/* For what takes only amounts above 0. */
static int32_t draw_positive(struct load *load)
{
	int32_t amount = draw_amount(load);

	if (amount < 0)
		amount = -amount;
	return amount > 0 ? amount : 1;
}

/* An account that none of the first COUNT legs has: where the skew draws one of them again, its
 * neighbour, so that a draw always ends. */
static uint32_t draw_other(struct load *load, const struct posting *leg, uint32_t count)
{
	uint32_t account = draw_account(load);

	for (uint32_t i = 0; i < count; i++) {
		if (leg[i].account != account)
			continue;
		account = (account + 1) % load->options->accounts;
		i = UINT32_MAX; /* look at all of them again */
	}
	return account;
}

/* COUNT legs whose amounts sum to zero: the first one pays the others. */
static void draw_legs(struct load *load, struct operation *operation, uint32_t count)
{
	int32_t amount = draw_positive(load);

	operation->count = count;
	for (uint32_t i = 0; i < count; i++)
		operation->leg[i] =
		    (struct posting){draw_other(load, operation->leg, i),
		                     i == 0 ? -amount * (int32_t)(count - 1) : amount};
}

static void draw_events(struct load *load, struct operation *operation, uint32_t events)
{
	uint32_t batch = load->options->batch;

	operation->kind = KIND_EVENT;
	operation->count = events < batch ? events : batch;
	for (uint32_t i = 0; i < operation->count; i++) {
		uint32_t account = draw_account(load);
		operation->leg[i] = (struct posting){account, draw_amount(load)};
	}
}

static void draw_hold(struct load *load, struct operation *operation)
{
	uint32_t account = draw_account(load);

	operation->count = 1;
	operation->leg[0] = (struct posting){account, draw_positive(load)};
}

static enum mix draw_mix(struct load *load)
{
	const uint32_t *weight = load->options->weight;
	int mix = 0;

	if (weight[MIX_EVENT] == load->weights)
		return MIX_EVENT;
	uint32_t at = random_below(&load->random, load->weights);
	while (at >= weight[mix])
		at -= weight[mix++];
	return (enum mix)mix;
}

static void write_id(struct load *load, struct text *text)
{
	static const char digits[] = "0123456789abcdef";
	char name[17];

	for (int i = 0; i < 16; i++)
		name[i] = digits[load->run >> (60 - 4 * i) & 15];
	name[16] = '-';
	text_bytes(text, name, sizeof name);
	text_unsigned(text, load->ids++);
}

/* With ids a hold is called as its operation; without, as the server likes. */
static void name_hold(struct load *load, struct hold *hold)
{
	struct text text;

	text_init(&text, hold->name, sizeof hold->name);
	if (load->options->ids)
		write_id(load, &text);
	hold->length = (uint8_t)text.length;
}

void load_draw(struct load *load, struct operation *operation, uint32_t events)
{
	enum mix mix = draw_mix(load);

	operation->hold.length = 0;
	switch (mix) {
	case MIX_TRANSFER:
		operation->kind = KIND_TRANSFER;
		draw_legs(load, operation, 2);
		return;
	case MIX_TRANSACTION:
		operation->kind = KIND_TRANSACTION;
		draw_legs(load, operation, load->options->legs);
		return;
	case MIX_CAPTURE:
	case MIX_RELEASE:
		operation->kind = KIND_HOLD;
		operation->settle = mix == MIX_CAPTURE ? KIND_CAPTURE : KIND_RELEASE;
		draw_hold(load, operation);
		name_hold(load, &operation->hold);
		return;
	case MIX_READ:
		operation->kind = KIND_READ;
		operation->count = 1;
		operation->leg[0] = (struct posting){draw_account(load), 0};
		return;
	default:
		draw_events(load, operation, events);
	}
}

/* ---- writing */

static void write_name(const struct load *load, struct text *text, uint32_t account)
{
	text_string(text, load->options->prefix);
	text_unsigned(text, account);
}

static void write_leg(const struct load *load, struct text *text, const struct posting *leg)
{
	text_literal(text, "{\"account\":\"");
	write_name(load, text, leg->account);
	text_literal(text, "\",\"amount\":");
	text_signed(text, leg->amount);
}

static void end_object(struct load *load, struct text *text)
{
	if (load->options->ids) {
		text_literal(text, ",\"id\":\"");
		write_id(load, text);
		text_literal(text, "\"");
	}
	text_literal(text, "}");
}

static void write_events(struct load *load, struct text *text, const struct operation *operation)
{
	for (uint32_t i = 0; i < operation->count; i++) {
		write_leg(load, text, &operation->leg[i]);
		end_object(load, text);
		if (load->options->batch > 1)
			text_literal(text, "\n");
	}
}

static void write_transfer(struct load *load, struct text *text, const struct operation *operation)
{
	text_literal(text, "{\"from\":\"");
	write_name(load, text, operation->leg[0].account);
	text_literal(text, "\",\"to\":\"");
	write_name(load, text, operation->leg[1].account);
	text_literal(text, "\",\"amount\":");
	text_signed(text, operation->leg[1].amount);
	end_object(load, text);
}

static void write_transaction(struct load *load, struct text *text,
                              const struct operation *operation)
{
	text_literal(text, "{\"balanced\":true,\"legs\":");
	for (uint32_t i = 0; i < operation->count; i++) {
		text_bytes(text, i == 0 ? "[" : ",", 1);
		write_leg(load, text, &operation->leg[i]);
		text_literal(text, "}");
	}
	text_literal(text, "]");
	end_object(load, text);
}

static void write_hold(struct load *load, struct text *text, const struct operation *operation)
{
	write_leg(load, text, operation->leg);
	text_literal(text, ",\"ttl\":");
	text_unsigned(text, LOAD_HOLD_TTL);
	if (operation->hold.length > 0) {
		text_literal(text, ",\"id\":\"");
		text_bytes(text, operation->hold.name, operation->hold.length);
		text_literal(text, "\"");
	}
	text_literal(text, "}");
}

static void write_settlement(struct load *load, struct text *text)
{
	if (!load->options->ids)
		text_literal(text, "{}");
	else {
		text_literal(text, "{\"id\":\"");
		write_id(load, text);
		text_literal(text, "\"}");
	}
}

static void write_body(struct load *load, struct text *text, const struct operation *operation)
{
	switch ((enum kind)operation->kind) {
	case KIND_EVENT:
		write_events(load, text, operation);
		return;
	case KIND_TRANSFER:
		write_transfer(load, text, operation);
		return;
	case KIND_TRANSACTION:
		write_transaction(load, text, operation);
		return;
	case KIND_HOLD:
		write_hold(load, text, operation);
		return;
	default:
		write_settlement(load, text);
	}
}

static void write_target(struct text *text, const struct operation *operation)
{
	switch ((enum kind)operation->kind) {
	case KIND_EVENT:
		text_literal(text, "POST /events");
		return;
	case KIND_TRANSFER:
		text_literal(text, "POST /transfers");
		return;
	case KIND_TRANSACTION:
		text_literal(text, "POST /transactions");
		return;
	case KIND_HOLD:
		text_literal(text, "POST /holds");
		return;
	default:
		text_literal(text, "POST /holds/");
		text_bytes(text, operation->hold.name, operation->hold.length);
		text_string(text, operation->kind == KIND_CAPTURE ? "/capture" : "/release");
	}
}

size_t load_write_read(const struct load *load, uint32_t number, char *target)
{
	struct text text;

	text_init(&text, target, LOAD_HEAD_MAX);
	text_literal(&text, "GET /accounts/");
	write_name(load, &text, number);
	text_bytes(&text, load->fields, load->fields_length);
	text_literal(&text, "\r\n");
	return text.length;
}

size_t load_write(struct load *load, const struct operation *operation, char *target)
{
	struct text text, body;

	if (operation->kind == KIND_READ)
		return load_write_read(load, operation->leg[0].account, target);
	text_init(&body, load->body, load_request_max(load->options));
	write_body(load, &body, operation);
	text_init(&text, target, load_request_max(load->options));
	write_target(&text, operation);
	text_bytes(&text, load->fields, load->fields_length);
	if (operation->kind == KIND_EVENT && load->options->batch > 1)
		text_literal(&text, "Content-Type: application/x-ndjson\r\n");
	else
		text_literal(&text, "Content-Type: application/json\r\n");
	text_literal(&text, "Content-Length: ");
	text_unsigned(&text, body.length);
	text_literal(&text, "\r\n\r\n");
	text_bytes(&text, body.bytes, body.length);
	return text.length;
}

/* ---- bounds, beginning and end */

uint32_t load_legs_max(const struct options *options)
{
	uint32_t legs = options->batch;

	if (options->weight[MIX_TRANSFER] > 0 && legs < 2)
		legs = 2;
	if (options->weight[MIX_TRANSACTION] > 0 && legs < options->legs)
		legs = options->legs;
	return legs;
}

size_t load_request_max(const struct options *options)
{
	return LOAD_HEAD_MAX + (size_t)(load_legs_max(options) + 1) * LOAD_PART_MAX;
}

void load_init(struct load *load, const struct options *options, const struct target *target)
{
	static uint64_t runs;
	struct random nonce;
	struct text fields;

	*load = (struct load){.options = options};
	random_seed(&load->random, options->seed);
	random_seed(&nonce, clock_real_us() ^ (uint64_t)getpid() << 40 ^ runs++ << 32);
	load->run = random_next(&nonce);
	if (options->zipf > 0)
		zipf_init(&load->zipf, options->accounts, options->zipf);
	for (int i = 0; i < MIXES; i++)
		load->weights += options->weight[i];
	text_init(&fields, load->fields, sizeof load->fields);
	text_literal(&fields, " HTTP/1.1\r\nHost: ");
	text_string(&fields, target->host);
	text_literal(&fields, "\r\n");
	if (options->token[0] != '\0') {
		text_literal(&fields, "Authorization: Bearer ");
		text_string(&fields, options->token);
		text_literal(&fields, "\r\n");
	}
	load->fields_length = fields.length;
	load->body = malloc(load_request_max(options));
	if (load->body == NULL) {
		perror("tallybench: memory");
		exit(EXIT_FAILURE);
	}
}

void load_free(struct load *load)
{
	free(load->body);
	load->body = NULL;
}
