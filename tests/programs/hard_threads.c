/* hard_threads.c: threads by the hundred, on the smallest stacks, detached at exit; blocks that others free; what
   thread-specific data's destructors do. Prints the same whether it is traced or not. */

#define _GNU_SOURCE
#include "traced.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT_A_TIME 100
#define HANDED 20000

static void start(pthread_t *thread, void *(*run)(void *), void *argument, size_t stack)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (stack)
        pthread_attr_setstacksize(&attributes, stack);
    if (pthread_create(thread, &attributes, run, argument) != 0)
        abort();
    pthread_attr_destroy(&attributes);
}

static void *allocate(void *argument)
{
    char *kept[20];
    for (size_t i = 0; i < 20; i++) {
        kept[i] = malloc(i * 50);
        if (i > 0)
            memset(kept[i], (int)i, i * 50);
    }
    for (size_t i = 0; i < 20; i++) {
        kept[i] = realloc(kept[i], i * 100 + 1);
        if (kept[i][0] != (char)i && i > 0)
            puts("a thread's block changed");
        free(kept[i]);
    }
    return argument;
}

/* What glibc keeps for each of the stacks that it keeps. */
static int is_little(size_t bytes)
{
    return (ptrdiff_t)bytes < AT_A_TIME * 1000;
}

static void created_and_joined(size_t stack)
{
    pthread_t threads[AT_A_TIME];
    size_t before = traced_now();
    for (int round = 0; round < 8; round++) {
        for (int i = 0; i < AT_A_TIME; i++)
            start(&threads[i], allocate, NULL, stack);
        for (int i = 0; i < AT_A_TIME; i++)
            pthread_join(threads[i], NULL);
    }
    printf("joined: %s\n", is_little(traced_now() - before) ? "all freed" : "blocks are left");
}

static void *queue[HANDED]; /* atomic */

static void *produce(void *argument)
{
    for (size_t i = 0; i < HANDED; i++)
        __atomic_store_n(&queue[i], malloc(i % 1000 + 1), __ATOMIC_RELEASE);
    return argument;
}

static void *consume(void *argument)
{
    for (size_t i = 0; i < HANDED; i++) {
        void *block;
        while (!(block = __atomic_exchange_n(&queue[i], NULL, __ATOMIC_ACQUIRE)))
            sched_yield();
        if (is_traced() && frames_of(block) == 0)
            puts("a block that another thread made is not known");
        free(block);
    }
    return argument;
}

static void freed_by_others(void)
{
    pthread_t producer, consumer;
    size_t before = traced_now();
    start(&producer, produce, NULL, 0);
    start(&consumer, consume, NULL, 0);
    pthread_join(producer, NULL);
    pthread_join(consumer, NULL);
    printf("handed over: %s\n", is_little(traced_now() - before) ? "all freed" : "blocks are left");
}

static pthread_key_t keys[8];
static unsigned destroyed;

/* Comes round again until the last iteration, allocating anew. */
static void destroy(void *value)
{
    size_t round = *(size_t *)value;
    free(value);
    __atomic_fetch_add(&destroyed, 1, __ATOMIC_RELAXED);
    if (round + 1 < PTHREAD_DESTRUCTOR_ITERATIONS) {
        size_t *next = malloc(sizeof *next);
        *next = round + 1;
        pthread_setspecific(keys[round], next);
    }
}

static void *set_keys(void *argument)
{
    for (int i = 0; i < 8; i++) {
        size_t *value = malloc(sizeof *value);
        *value = PTHREAD_DESTRUCTOR_ITERATIONS;
        pthread_setspecific(keys[i], value);
    }
    *(size_t *)pthread_getspecific(keys[7]) = 0;
    return argument;
}

static void specific_data(void)
{
    pthread_t threads[AT_A_TIME];
    size_t before = traced_now();
    for (int i = 0; i < 8; i++)
        pthread_key_create(&keys[i], destroy);
    for (int i = 0; i < AT_A_TIME; i++)
        start(&threads[i], set_keys, NULL, 0);
    for (int i = 0; i < AT_A_TIME; i++)
        pthread_join(threads[i], NULL);
    printf("destructors: %s, %s\n", destroyed >= 8 * AT_A_TIME ? "all ran" : "some did not run",
           is_little(traced_now() - before) ? "all freed" : "blocks are left");
}

static void *allocate_for_ever(void *unused)
{
    for (;;)
        allocate(unused);
}

static void freed_at_exit(void)
{
    for (int i = 0; i < 1000; i++)
        free(malloc(100));
    puts("exit");
}

int main(void)
{
    created_and_joined(0);
    created_and_joined(PTHREAD_STACK_MIN);
    freed_by_others();
    specific_data();
    atexit(freed_at_exit);
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        start(&thread, i % 2 ? allocate : allocate_for_ever, NULL, i % 3 ? 0 : PTHREAD_STACK_MIN);
        pthread_detach(thread);
    }
    return 0;
}
