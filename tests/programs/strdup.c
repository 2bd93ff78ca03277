/* strdup.c: a program that leaves all allocation to libc. */

#include <string.h>

char *volatile copy;

int main(int argc, char **argv)
{
    copy = strdup(argv[argc - 1]);
    return copy == NULL;
}
