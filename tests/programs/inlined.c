/* inlined.c: a block whose innermost callers are inlined functions, one of them from a header. */

#define CHECKPOINT_COUNTERS
#include "checkpoint.h"
#include "inlined.h"

void *volatile kept;

int main(void)
{
    kept = outer(30); /* line: main */
    expect(1, 30);
    checkpoint();
    return 0;
}
