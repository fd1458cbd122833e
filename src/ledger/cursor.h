/*
 * What a client is handed to go on listing with.  Where a listing stands is a hash that is kept
 * secret, since names could be aimed at one stripe with it, or the place of a slot, which tells of
 * one; so a client gets it enciphered.  A block cipher of 64 bits is a permutation of all
 * positions: each has one cursor, and every cursor means some position.
 *
 * The cipher is Speck64/128: R. Beaulieu, D. Shors, J. Smith, S. Treatman-Clark, B. Weeks,
 * L. Wingers: "The SIMON and SPECK Families of Lightweight Block Ciphers", 2013, IACR Cryptology
 * ePrint Archive 2013/404.
 */
#ifndef TALLYD_LEDGER_CURSOR_H
#define TALLYD_LEDGER_CURSOR_H

#include <stdint.h>

#define CURSOR_ROUNDS    27
#define CURSOR_KEY_WORDS 4

struct cursor_key {
	uint32_t round[CURSOR_ROUNDS];
};

/* The key of cursors for PURPOSE, a fixed function of the journal's key: they outlive a restart. */
void cursor_key_make(struct cursor_key *key, uint64_t journal_key, const char *purpose);

/* The same from the cipher's own key, lowest word first. */
void cursor_key_expand(struct cursor_key *key, const uint32_t word[CURSOR_KEY_WORDS]);

uint64_t cursor_seal(const struct cursor_key *key, uint64_t position);
uint64_t cursor_open(const struct cursor_key *key, uint64_t cursor);

#endif
