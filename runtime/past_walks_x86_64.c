/* past_walks_x86_64.c: keeps walks as words of the stack.

   A frame's slot follows from its callee's and from the rule of that one's program counter; or from the rbp that was
   loaded last, then that is a word to be read as well. What a signal interrupted, or is left in other ways, is not
   kept.

   Where most walks are new, as in a compiler, looking for past ones costs more than it saves: then it pauses. */

#include "past_walks_x86_64.h"

#include "step_x86_64.h"

/* What is missed more often than ten times in 33 saves nothing. A pause is twice as long as the one before, unless it
   was worth it in between. */
#define MISSES 250
#define CALLS_WORTH_IT (MISSES * 33 / 10)
#define PAUSE_LEAST 256
#define PAUSE_MOST 16384

#define WORDS_MOST 1024 /* of one walk */

/* The last word's: its place holds another value. */
static const uintptr_t never;

static uint32_t units_of(size_t words)
{
    return (uint32_t)((sizeof(struct past_walk) + words * sizeof(struct past_word) + PAST_UNIT - 1) / PAST_UNIT);
}

/* The next so many units in a row. */
static uint32_t take_units(struct past_walks *past, uint32_t count)
{
    uint32_t unit = past->next;
    if (unit % PAST_UNITS + count > PAST_UNITS)
        unit += PAST_UNITS - unit % PAST_UNITS;
    if (state_unlikely(unit == 0 || unit > UINT32_MAX - 2 * PAST_UNITS)) {
        past_walks_forget(past);
        unit = PAST_UNITS;
    }
    past->next = unit + count;
    return unit;
}

/* Where the rbp was loaded from that frame number FRAME has, 0 if that is not known. */
static uintptr_t rbp_place(void *const *pcs, const uintptr_t *slots, size_t frame)
{
    const struct rule_cache *in = state_load(rule_cache);
    for (; frame > 0; frame--) {
        uint64_t rule = rule_cache_peek(in, (uintptr_t)pcs[frame - 1]);
        if (!(rule & RULE_BY_RSP) && (rule & RULE_KIND) != UNWIND_RBP)
            return 0;
        if (rule & RULE_RBP_SAVED)
            return step_rsp_of(slots[frame]) - 8 + (uintptr_t)rule_rbp_offset(rule);
    }
    return slots[0] - 8; /* the library's own frame, which is entered by a push of rbp */
}

/* The words of a walk; NULL if it cannot be kept, else where they end. */
static struct past_word *put_words(struct past_word *word, void *const *pcs, const uintptr_t *slots, size_t count,
                                   size_t unmarked)
{
    size_t i = 0;
    for (; i < count && i < unmarked; i++)
        *word++ = (struct past_word){slots[i], (uintptr_t)pcs[i]};
    for (; i < count; i++) {
        uintptr_t slot = slots[i] & ~(uintptr_t)SLOT_MARKS;
        if (slots[i] & SLOT_BY_RBP) {
            uintptr_t place = rbp_place(pcs, slots, i - 1);
            if (!place)
                return NULL;
            *word++ = (struct past_word){place, step_word_at(place)};
        } else if (slots[i] & SLOT_MARKS) {
            return NULL;
        }
        *word++ = (struct past_word){slot, (uintptr_t)pcs[i]};
    }
    *word = (struct past_word){(uintptr_t)&never, 1};
    return word;
}

static void count_miss(struct past_walks *past)
{
    if (++past->misses < MISSES)
        return;
    unsigned longer = past->pause == 0 ? PAUSE_LEAST : 2u * past->pause;
    past->pause = (uint16_t)(past->calls >= CALLS_WORTH_IT ? 0 : longer < PAUSE_MOST ? longer : PAUSE_MOST);
    past->calls = -(int64_t)past->pause;
    past->misses = 0;
}

__attribute__((noinline)) void past_walks_keep(struct past_walks *past, void *const *pcs, const uintptr_t *slots,
                                               size_t count, size_t unmarked, uint32_t site)
{
    size_t words_most = (unmarked < count ? 2 * count : count) + 1;
    if (past->calls < 0 || words_most > WORDS_MOST)
        return;
    count_miss(past);
    uint64_t hash = past_walks_hash(slots[0], (uintptr_t)pcs[0], (uintptr_t)pcs[1]);
    uint32_t unit = take_units(past, units_of(words_most));
    struct past_walk *walk = (void *)past->units[unit % PAST_UNITS];
    const struct past_word *end = put_words(walk->words, pcs, slots, count, unmarked);
    if (!end)
        return;
    walk->count = (uint32_t)(end - walk->words);
    walk->site = site;
    uint64_t *cells = past_walks_cells(past, hash);
    cells[1] = cells[0];
    cells[0] = hash >> 32 << 32 | unit;
}
