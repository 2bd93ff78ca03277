/* hard_forks.c: every way to make a process, from a program whose threads allocate all the time. Prints the same
   whether it is traced or not. */

#define _GNU_SOURCE
#include "traced.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static volatile int stop;

static void *churn(void *argument)
{
    void *held[64] = {0};
    unsigned seed = (unsigned)(uintptr_t)argument;
    while (!stop) {
        seed = seed * 1103515245u + 12345u;
        unsigned i = seed >> 16 & 63;
        held[i] = realloc(held[i], seed >> 8 & 0xfff);
        if (i % 16 == 0)
            sched_yield();
    }
    for (int i = 0; i < 64; i++)
        free(held[i]);
    return NULL;
}

/* Whether the process can allocate, and knows what it allocates. */
static int works(void)
{
    size_t before = traced_now();
    void *kept[50];
    for (size_t i = 0; i < 50; i++)
        kept[i] = malloc(1000);
    int right = !is_traced() || traced_now() - before == 50000;
    for (size_t i = 0; i < 50; i++)
        free(kept[i]);
    return right && traced_now() == before;
}

static int status_of(pid_t child)
{
    int status = -1;
    return child > 0 && waitpid(child, &status, 0) == child ? status : -1;
}

static int forks(int depth)
{
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        _exit(works() && (depth == 0 || forks(depth - 1) == 0) ? 0 : 1);
    }
    return status_of(child);
}

static int spawns(void)
{
    char *arguments[] = {"true", NULL};
    pid_t child = -1;
    posix_spawnp(&child, "true", NULL, NULL, arguments, environ);
    return status_of(child);
}

/* The child allocates too, in its parent's memory. */
static int vforks(int allocates)
{
    char *volatile block = NULL;
    pid_t child = vfork();
    if (child == 0) {
        if (allocates)
            block = malloc(100);
        execlp("true", "true", (char *)NULL);
        _exit(1);
    }
    int known = !block || !is_traced() || frames_of(block) > 0;
    free(block);
    return known ? status_of(child) : 1;
}

/* No fork handlers run. Without other threads the child may do what it likes. */
static int forks_without_handlers(int by_system_call)
{
    pid_t child = by_system_call ? (pid_t)syscall(SYS_fork) : _Fork();
    if (child == 0) {
        alarm(60);
        _exit(works() && works() ? 0 : 1);
    }
    return status_of(child);
}

static void count(const char *what, int bad)
{
    printf("%s: %d bad\n", what, bad);
    fflush(stdout);
}

int main(void)
{
    pthread_t threads[4];
    int bad = 0;
    for (int i = 0; i < 20; i++)
        bad += forks_without_handlers(i % 2) != 0;
    count("_Fork", bad);
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, churn, (void *)(i + 1));
    bad = 0;
    for (int i = 0; i < 300; i++)
        bad += forks(0) != 0;
    count("fork", bad);
    bad = 0;
    for (int i = 0; i < 30; i++)
        bad += forks(3) != 0;
    count("fork in fork", bad);
    bad = 0;
    for (int i = 0; i < 30; i++)
        bad += vforks(i % 2) != 0;
    count("vfork", bad);
    bad = 0;
    for (int i = 0; i < 30; i++)
        bad += spawns() != 0;
    count("posix_spawn", bad);
    bad = 0;
    for (int i = 0; i < 20; i++)
        bad += system("true") != 0;
    count("system", bad);
    stop = 1;
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    printf("%s\n", works() ? "works" : "works no more");
    return 0;
}
