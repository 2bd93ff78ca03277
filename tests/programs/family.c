/* family.c: a parent and a child, each with blocks of its own.

   family [PROGRAM]: the child becomes PROGRAM in the end. */

#define CHECKPOINT_COUNTERS
#include "checkpoint.h"

#include <sys/wait.h>
#include <unistd.h>

void *kept[20];
static int used;

static void keep(int count, size_t size)
{
    for (int i = 0; i < count; i++)
        kept[used++] = malloc(size); /* line: keep */
    expect(count, count * (long)size);
}

int main(int argc, char **argv)
{
    keep(10, 100);
    pid_t child = fork();
    if (child == 0) {
        keep(5, 1000);
        checkpoint();
        if (argc > 1)
            execl(argv[1], argv[1], (char *)NULL);
        _exit(0);
    }
    keep(3, 77777);
    checkpoint();
    waitpid(child, NULL, 0);
    return 0;
}
