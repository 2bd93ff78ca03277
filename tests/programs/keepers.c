/* keepers.c: eight threads that allocate, resize, free, and pass blocks to each other, each with books of its own that
   are right at any instruction; for tests that stop it at random moments.

   What a thread holds is in its books; what it is just doing is its `doing`, set before and cleared after. */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { THREADS = 8, SLOTS = 64, MAILBOXES = 16 };
enum doing { NOTHING, ADDING, REMOVING, MOVING, PASSING };

/* A block in one word, which one store changes: its address, and its size above. */
#define SIZE_SHIFT 48

struct books {
    uint64_t held[SLOTS];
    uint64_t doing; /* enum doing, of the block in slot SLOT */
    uint64_t slot;
    uint64_t size; /* of the block that is to come */
};
struct books books[THREADS];
uint64_t mailboxes[MAILBOXES]; /* blocks on their way from one thread to another */

static _Thread_local uint64_t random_state;

static unsigned any(unsigned limit)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % limit;
}

static uint64_t packed(void *block, size_t size)
{
    return (uintptr_t)block | (uint64_t)size << SIZE_SHIFT;
}

static void *address_of(uint64_t word)
{
    return (void *)(uintptr_t)(word & ((UINT64_C(1) << SIZE_SHIFT) - 1));
}

/* The signal fences keep the compiler, and x86's order of stores the processor, from mixing them up. */
static void begin(struct books *own, enum doing doing, unsigned slot, size_t size)
{
    own->slot = slot;
    own->size = size;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&own->doing, doing, __ATOMIC_RELEASE);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static void end(struct books *own, uint64_t word)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&own->held[own->slot], word, __ATOMIC_RELEASE);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&own->doing, NOTHING, __ATOMIC_RELEASE);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* Mostly small; some take pages of their own, a few a mapping. */
static size_t any_size(void)
{
    switch (any(40)) {
    case 0:
        return 1 + any(60000);
    case 1:
    case 2:
    case 3:
        return 1 + any(5000);
    default:
        return 1 + any(200);
    }
}

__attribute__((noinline)) static void change(struct books *own, unsigned slot)
{
    uint64_t word = own->held[slot];
    size_t size = any_size();
    unsigned choice = any(16);
    if (!word) {
        begin(own, ADDING, slot, size);
        end(own, packed(choice & 1 ? malloc(size) : calloc(1, size), size));
    } else if (choice < 4) {
        begin(own, PASSING, slot, 0);
        end(own, __atomic_exchange_n(&mailboxes[any(MAILBOXES)], word, __ATOMIC_SEQ_CST));
    } else if (choice < 8) {
        begin(own, MOVING, slot, size);
        end(own, packed(realloc(address_of(word), size), size));
    } else {
        begin(own, REMOVING, slot, 0);
        free(address_of(word));
        end(own, 0);
    }
}

static void *keep(void *number)
{
    struct books *own = &books[(uintptr_t)number];
    random_state = (uintptr_t)number * 977 + 1;
    /* In waves, so that pages come into use and out of it. */
    for (unsigned turn = 0;; turn++) {
        unsigned wave = turn / 512 % 4;
        change(own, any(wave == 0 ? SLOTS : SLOTS / 8 * wave));
    }
}

int main(void)
{
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, keep, (void *)i);
    if (write(1, "ready\n", 6) != 6)
        return 1;
    pthread_join(threads[0], NULL);
    return 0;
}
