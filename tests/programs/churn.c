/* churn.c: blocks come and go, and `truth` counts the live ones; for tests that step through it. */

#define CHECKPOINT_COUNTERS
#include "checkpoint.h"

enum { SLOTS = 200 };
void *slots[SLOTS];
volatile long truth;

int main(void)
{
    checkpoint();
    for (unsigned step = 0;; step++) {
        unsigned slot = step * 7 % SLOTS; /* line: step */
        if (slots[slot] && step % 3 == 0) {
            slots[slot] = realloc(slots[slot], 24 + step % 90);
        } else if (slots[slot]) {
            free(slots[slot]);
            slots[slot] = NULL;
            truth--;
        } else {
            slots[slot] = malloc(16 + step % 40);
            truth++;
        }
    }
}
