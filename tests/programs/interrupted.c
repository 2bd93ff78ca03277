/* interrupted.c: a signal handler that allocates, upon a fault in a known line. */

#define CHECKPOINT_COUNTERS
#include "checkpoint.h"

#include <setjmp.h>
#include <signal.h>
#include <stddef.h>

void *volatile kept;
static sigjmp_buf back;

static void handler(int number)
{
    (void)number;
    kept = malloc(123); /* line: handler */
    siglongjmp(back, 1);
}

__attribute__((noipa)) static void fault(volatile int *nowhere)
{
    *nowhere = 1; /* line: fault */
}

int main(void)
{
    signal(SIGSEGV, handler);
    if (sigsetjmp(back, 1) == 0)
        fault(NULL); /* line: main */
    expect(1, 123);
    checkpoint();
    return 0;
}
