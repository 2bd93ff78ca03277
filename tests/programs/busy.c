/* busy.c: shows each of its blocks while another thread's blocks come and go. */

#define CHECKPOINT_COUNTERS
#include "checkpoint.h"

#include <pthread.h>

enum { SHOWN = 500, SIZE = 100, PASSING = 64 };
void *kept[SHOWN];
volatile int has_begun;

__attribute__((noipa)) void show(char *block)
{
    __asm__ volatile("" ::"r"(block));
}

static void *churn(void *unused)
{
    void *passing[PASSING] = {NULL};
    for (unsigned turn = 0;; turn++) {
        free(passing[turn % PASSING]);
        passing[turn % PASSING] = malloc(1 + turn * 7919 % 5000);
        has_begun = 1;
    }
    return unused;
}

int main(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, churn, NULL);
    while (!has_begun)
        ;
    for (int i = 0; i < SHOWN; i++) {
        kept[i] = malloc(SIZE);
        show(kept[i]);
    }
    checkpoint();
    return 0;
}
