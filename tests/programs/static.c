/* static.c: threads, a fork and tracebacks in a program that may be linked with -static. Prints the same whether it is
   traced or not. */

#include "traced.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *volatile block; /* volatile: the compiler would leave unused blocks out */

static __attribute__((noinline)) void nested(int depth)
{
    if (depth > 0)
        nested(depth - 1);
    else
        block = malloc(4000);
    __asm__ volatile("" ::: "memory");
}

static void *allocate(void *unused)
{
    for (size_t i = 0; i < 10000; i++)
        free(malloc(i));
    return unused;
}

int main(void)
{
    pthread_t threads[4];
    size_t before = traced_now();
    nested(3);
    int is_right = !is_traced() || (traced_now() - before == 4000 && frames_of(block) > 0);
    void *frames[5];
    if (is_traced() && tm_get_object_traceback(block, frames, 5) >= 4)
        is_right &= frames[1] == frames[2] && frames[0] != frames[1];
    printf("%s\n", is_right ? "right" : "wrong");
    printf("%s\n", !is_traced() || frames_of(block) == 1 || frames_of(block) >= 5 ? "whole" : "cut");
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, allocate, NULL);
    fflush(stdout);
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (child == 0) {
            allocate(NULL);
            _exit(0);
        }
        int status = -1;
        waitpid(child, &status, 0);
        if (status != 0)
            printf("child: %d\n", status);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    free(block);
    printf("%s\n", frames_of(block) == 0 ? "freed" : "a ghost");
    return 0;
}
