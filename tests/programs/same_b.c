/* same_b.c: compiled as b/util.c. */

#include <stdlib.h>

void *from_b(void)
{
    void *block = malloc(20);
    __asm__ volatile("" ::: "memory");
    return block;
}
