/* same.c: blocks from two files of the same name. */

#define CHECKPOINT_COUNTERS
#include "checkpoint.h"

void *from_a(void);
void *from_b(void);
void *volatile kept[2];

int main(void)
{
    kept[0] = from_a();
    kept[1] = from_b();
    expect(2, 30);
    checkpoint();
    return 0;
}
