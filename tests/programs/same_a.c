/* same_a.c: compiled as a/util.c. */

#include <stdlib.h>

void *from_a(void)
{
    void *block = malloc(10);
    __asm__ volatile("" ::: "memory");
    return block;
}
