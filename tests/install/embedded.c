/* embedded.c: a program that links the installed library; C and C++ alike. */

#include <tracemalloc.h>

#include <stdio.h>
#include <stdlib.h>

void *kept;

int main(void)
{
    size_t current, peak;
    if (tm_start(5) != 0)
        return 1;
    kept = malloc(1234);
    tm_get_traced_memory(&current, &peak);
    printf("%zu\n", current);
    free(kept);
    return 0;
}
