/* bystander.c: one thread keeps a block a round; another counts its turns, or uses libc's allocator directly. GDB may
   call a function that takes its time. */

#define CHECKPOINT_COUNTERS
#include "checkpoint.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { ROUNDS = 1000, SIZE = 100 };
void *kept[ROUNDS];
volatile long turns, caught;
volatile int use_libc;
void *__libc_malloc(size_t size);
void __libc_free(void *block);

static void *count_turns(void *unused)
{
    for (;;) {
        turns++;
        if (use_libc)
            __libc_free(__libc_malloc(64));
    }
    return unused;
}

static void count_signal(int number)
{
    (void)number;
    caught++;
}

/* Waits in GDB's directory for the file that says that a signal was sent; 1 if it came to that end. */
int wait_for_signal(void)
{
    fclose(fopen("called", "w"));
    while (access("signalled", F_OK) != 0)
        usleep(1000);
    return 1;
}

int main(void)
{
    pthread_t thread;
    signal(SIGUSR1, count_signal);
    pthread_create(&thread, NULL, count_turns, NULL);
    while (turns == 0)
        ;
    for (int round = 0; round < ROUNDS; round++) {
        kept[round] = malloc(SIZE); /* line: keep */
        expect(1, SIZE);
        checkpoint();
    }
    return 0;
}
