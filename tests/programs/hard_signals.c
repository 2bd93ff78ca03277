/* hard_signals.c: signals on alternate stacks that interrupt malloc at any instruction, with handlers that allocate,
   fork and jump away. That is allowed only with an allocator which may be interrupted: own_heap.c, preloaded. Prints
   the same whether it is traced or not. */

#define _GNU_SOURCE
#include "traced.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIGNALS 500

static volatile int taken;
static volatile int wrong;

static void check_block(size_t size)
{
    char *volatile made = malloc(size);
    memset(made, 'x', size);
    made = realloc(made, size * 2);
    if (made[0] != 'x' || made[size - 1] != 'x')
        wrong++;
    free(made);
}

static void on_signal(int number)
{
    int error = errno;
    check_block(50 + (size_t)number);
    taken++;
    errno = error;
}

/* It may interrupt the other one, but not the other way round: libc's own fork may not be entered twice. */
static void on_fork_signal(int number)
{
    int error = errno;
    check_block(50 + (size_t)number);
    if (++taken % 50 == 0) {
        pid_t child = fork();
        if (child == 0) {
            alarm(60);
            check_block(10);
            _exit(0);
        }
        int status = -1;
        waitpid(child, &status, 0);
        wrong += status != 0;
    }
    errno = error;
}

static sigjmp_buf way_out;

static void on_jump(int number)
{
    (void)number;
    taken++;
    siglongjmp(way_out, 1);
}

static void on_other_stack(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    if (handler == on_fork_signal)
        sigfillset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

static void use_other_stack(void)
{
    static _Thread_local char stack[64 << 10];
    stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&other, NULL);
}

static void *work(void *unused)
{
    use_other_stack();
    for (size_t i = 0; taken < SIGNALS; i++) {
        char *volatile kept[8];
        errno = 4711;
        for (size_t j = 0; j < 8; j++)
            kept[j] = malloc(i % 100 + j);
        for (size_t j = 0; j < 8; j++)
            free(kept[j]);
        wrong += errno != 4711;
    }
    return unused;
}

static void *send(void *thread)
{
    while (taken < SIGNALS) {
        pthread_kill(*(pthread_t *)thread, taken % 2 ? SIGUSR1 : SIGUSR2);
        usleep(50);
    }
    return NULL;
}

static void interrupted(void)
{
    pthread_t worker, sender;
    taken = 0;
    on_other_stack(SIGUSR1, on_fork_signal);
    on_other_stack(SIGUSR2, on_signal);
    pthread_create(&worker, NULL, work, NULL);
    pthread_create(&sender, NULL, send, &worker);
    pthread_join(sender, NULL);
    pthread_join(worker, NULL);
    on_other_stack(SIGUSR1, SIG_IGN);
    on_other_stack(SIGUSR2, SIG_IGN);
    printf("interrupted: %d wrong\n", wrong);
}

/* Away from inside malloc, for good. */
static void jumped_out_of(void)
{
    struct itimerval often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
    use_other_stack();
    taken = 0;
    on_other_stack(SIGVTALRM, on_jump);
    sigsetjmp(way_out, 1);
    setitimer(ITIMER_VIRTUAL, &often, NULL);
    while (taken < 40)
        for (size_t i = 0; i < 100; i++)
            free(malloc(i));
    setitimer(ITIMER_VIRTUAL, &never, NULL);
    on_other_stack(SIGVTALRM, SIG_IGN);
    printf("jumped out of: %d wrong\n", wrong);
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    alarm(100);
    interrupted();
    jumped_out_of();
    check_block(100);
    return wrong != 0;
}
