/* pool.c: an allocator of its own, which tells the tracer of its blocks. The manual's chapter on pools shows it.

   A pool takes chunks from the heap and hands out cells of one size. To the tracer a chunk is one block of whoever was
   first to need it; the cells, in a domain of their own, are the blocks that the program means. */

#include <tracemalloc.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CELLS_DOMAIN 1
#define CELLS 64 /* in a chunk */

struct cell {
    struct cell *next;
};

struct pool {
    size_t size; /* of a cell */
    struct cell *unused;
};

static void pool_grow(struct pool *pool)
{
    char *chunk = malloc(pool->size * CELLS);
    if (!chunk)
        abort();
    for (int i = 0; i < CELLS; i++) {
        struct cell *cell = (struct cell *)(chunk + i * pool->size);
        cell->next = pool->unused;
        pool->unused = cell;
    }
}

static void *pool_get(struct pool *pool)
{
    if (!pool->unused)
        pool_grow(pool);
    struct cell *cell = pool->unused;
    pool->unused = cell->next;
    tm_track(CELLS_DOMAIN, (uintptr_t)cell, pool->size);
    return cell;
}

static void pool_put(struct pool *pool, void *block)
{
    struct cell *cell = block;
    tm_untrack(CELLS_DOMAIN, (uintptr_t)cell);
    cell->next = pool->unused;
    pool->unused = cell;
}

static void *open_session(struct pool *pool)
{
    return pool_get(pool);
}

static void *queue_message(struct pool *pool)
{
    return pool_get(pool);
}

int main(void)
{
    struct pool pool = {.size = 128};
    void *sessions[100], *messages[500];
    tm_domain_name(CELLS_DOMAIN, "cells");
    for (int i = 0; i < 100; i++)
        sessions[i] = open_session(&pool);
    for (int i = 0; i < 500; i++)
        messages[i] = queue_message(&pool);
    for (int i = 0; i < 450; i++)
        pool_put(&pool, messages[i]);
    if (tm_is_tracing() && tm_take_snapshot("pool.snap") != 0)
        perror("pool.snap");
    printf("sessions at %p, the last message at %p\n", sessions[0], messages[499]);
    return 0;
}
