/* held.c: what a program does to those who want a snapshot of it. Usage: held MODE [ARGUMENT...]

   Every mode holds one block of 4321 bytes; `child` stands for one of 777 bytes in a forked child. */

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

void *volatile held[8];

static void take_in_child(void)
{
    held[1] = malloc(777);
}

/* Until standard input ends. */
static void wait_for_input(void)
{
    char byte;
    while (read(0, &byte, 1) < 0 && errno == EINTR)
        ;
}

static void free_late(void)
{
    free(held[2]);
}

static int at_exit(void)
{
    held[2] = malloc(5555);
    atexit(free_late);
    return 7;
}

static int with_fork(char **arguments)
{
    pid_t child = fork();
    if (child == 0) {
        take_in_child();
        dprintf(1, "%d\n", (int)getpid());
        if (arguments[0] && strcmp(arguments[0], "wait") == 0)
            wait_for_input();
        exit(3);
    }
    int status;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

static void on_signal(int number)
{
    (void)number;
    dprintf(1, "own handler\n");
}

static int handles_itself(void)
{
    signal(SIGUSR2, on_signal);
    raise(SIGUSR2);
    return 0;
}

/* A signal that comes at any time from `ready` on ends the wait. */
static int pauses(void)
{
    struct sigaction action;
    sigset_t signals, none;
    sigemptyset(&none);
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR2);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    dprintf(1, "ready\n");
    errno = 0;
    int result = sigsuspend(&none);
    sigprocmask(SIG_UNBLOCK, &signals, NULL);
    int error = errno;
    sigaction(SIGUSR2, NULL, &action);
    dprintf(1, "%d %d %d\n", result, error == EINTR, action.sa_handler != SIG_DFL);
    wait_for_input();
    return 0;
}

static void *churn(void *argument)
{
    for (unsigned long i = 0; !*(volatile int *)argument; i++) {
        void *volatile block = malloc(i % 500);
        free(realloc(block, i % 900 + 1));
    }
    return NULL;
}

/* Threads that allocate, signals, and forks whose children allocate and exit. */
static int storm(char **arguments)
{
    pthread_t threads[3];
    int is_over = 0, failures = 0, rounds = atoi(arguments[0]);
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, churn, &is_over);
    for (int round = 0; round < rounds; round++) {
        int status = -1;
        pid_t child = fork();
        if (child == 0) {
            take_in_child();
            raise(SIGUSR2);
            exit(3);
        }
        raise(SIGUSR2);
        waitpid(child, &status, 0);
        failures += !WIFEXITED(status) || WEXITSTATUS(status) != 3;
    }
    is_over = 1;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    return failures;
}

static void exit_at_once(int number)
{
    (void)number;
    exit(9);
}

/* exit from a handler that interrupted malloc, or the library within it, or neither. */
static int exits_in_handler(void)
{
    const int never = 0;
    signal(SIGALRM, exit_at_once);
    ualarm(3000, 0);
    churn((void *)&never);
    return 0;
}

static int closes_output(void)
{
    dprintf(1, "x");
    for (int fd = 1; fd < 64; fd++)
        close(fd);
    wait_for_input();
    return 0;
}

static int run(const char *mode, char **arguments)
{
    if (strcmp(mode, "exit") == 0)
        return at_exit();
    if (strcmp(mode, "_exit") == 0)
        _exit(5);
    if (strcmp(mode, "kill") == 0)
        raise(SIGKILL);
    if (strcmp(mode, "crash") == 0)
        abort();
    if (strcmp(mode, "fork") == 0)
        return with_fork(arguments);
    if (strcmp(mode, "exec") == 0)
        return execvp(arguments[0], arguments);
    if (strcmp(mode, "system") == 0)
        return WEXITSTATUS(system(arguments[0]));
    if (strcmp(mode, "move") == 0)
        return chdir("/") == 0 ? 0 : 1;
    if (strcmp(mode, "handler") == 0)
        return handles_itself();
    if (strcmp(mode, "pause") == 0)
        return pauses();
    if (strcmp(mode, "storm") == 0)
        return storm(arguments);
    if (strcmp(mode, "exit-in-handler") == 0)
        return exits_in_handler();
    if (strcmp(mode, "close") == 0)
        return closes_output();
    if (strcmp(mode, "wait") == 0)
        wait_for_input();
    return 0;
}

int main(int count, char **arguments)
{
    held[0] = malloc(4321);
    return count > 1 ? run(arguments[1], arguments + 2) : 2;
}
