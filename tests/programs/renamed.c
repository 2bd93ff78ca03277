/* renamed.c: writes another name over its own, as servers do to be told apart. */

#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    static void *volatile kept;
    kept = malloc(1000);
    (void)kept;
    (void)argc;
    memcpy(argv[0], "a/b", 4);
    return 0;
}
