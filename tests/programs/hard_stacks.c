/* hard_stacks.c: stacks that a walk must get by: left by longjmp, unmapped and mapped anew under coroutines, overflown
   under a handler on another one, 50,000 calls deep; and code that tells nothing of its frames, or lies. Prints the
   same whether it is traced or not. */

#define _GNU_SOURCE
#include "traced.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <ucontext.h>
#include <unistd.h>

#define STACK ((size_t)64 << 10)

static __attribute__((noinline)) void allocate(void)
{
    void *volatile block = malloc(100); /* volatile: the compiler would leave unused blocks out */
    if (is_traced() && frames_of(block) == 0)
        puts("a block is not known");
    free(block);
}

static __attribute__((noinline)) void deep(int depth, void (*call)(void))
{
    volatile char room[40];
    room[0] = 1;
    if (depth > 0)
        deep(depth - 1, call);
    else
        call();
    room[1] = room[0];
}

static jmp_buf place;

static void jump(void)
{
    allocate();
    longjmp(place, 1);
}

static void long_jumps(void)
{
    for (volatile int i = 0; i < 3000; i++) {
        if (setjmp(place) == 0)
            deep(i % 40, jump);
        allocate();
    }
    puts("longjmp");
}

struct coroutine {
    ucontext_t context;
    char *stack;
    int turns;
};

static _Thread_local struct coroutine *running;
static _Thread_local ucontext_t main_context;

static void yield(void)
{
    allocate();
    swapcontext(&running->context, &main_context);
    allocate();
}

static void body(void)
{
    for (int i = 0; i < running->turns; i++) {
        allocate();
        deep(i * 7 % 30, yield);
    }
}

static void begin(struct coroutine *one, char *stack, int turns)
{
    one->stack = stack;
    one->turns = turns;
    getcontext(&one->context);
    one->context.uc_stack.ss_sp = stack;
    one->context.uc_stack.ss_size = STACK;
    one->context.uc_link = &main_context;
    makecontext(&one->context, body, 0);
}

static void resume(struct coroutine *one)
{
    running = one;
    swapcontext(&main_context, &one->context);
}

/* What comes to where a stack was: nothing, what must not be read, another stack at the same place. */
static void *coroutines(void *unused)
{
    for (int round = 0; round < 600; round++) {
        struct coroutine some[3];
        for (int i = 0; i < 3; i++) {
            char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            begin(&some[i], stack, 2 + (round + i) % 3);
            resume(&some[i]);
        }
        allocate();
        resume(&some[1]);
        /* They are left as they are, in the midst of their calls. */
        if (round % 3 == 0)
            munmap(some[1].stack, STACK);
        else if (round % 3 == 1)
            mprotect(some[1].stack, STACK, PROT_NONE);
        else
            memset(some[1].stack, round, STACK);
        allocate();
        for (int i = 0; i < 3; i += 2) {
            resume(&some[i]);
            allocate();
            munmap(some[i].stack, STACK);
            allocate();
        }
        if (round % 3 != 0)
            munmap(some[1].stack, STACK);
    }
    return unused;
}

static void coroutines_in_threads(void)
{
    pthread_t threads[3];
    coroutines(NULL);
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, coroutines, NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    puts("coroutines");
}

static __attribute__((noinline)) int recursion(int depth)
{
    volatile int own = depth;
    if (depth % 500 == 0)
        allocate();
    return depth == 0 ? 0 : recursion(depth - 1) + (own > 0);
}

static void deep_recursion(void)
{
    printf("recursion %d\n", recursion(50000));
    printf("again %d\n", recursion(50000));
}

static sigjmp_buf way_out;
static volatile int overflows;

static void on_overflow(int number)
{
    (void)number;
    overflows++;
    allocate(); /* the program was in its own code, so this is allowed */
    siglongjmp(way_out, 1);
}

static __attribute__((noinline)) int overflow(volatile char *before)
{
    volatile char room[1000];
    room[0] = before ? before[0] : 1;
    return overflow(room) + room[0];
}

static void *overflow_here(void *unused)
{
    stack_t other = {.ss_size = STACK};
    other.ss_sp = malloc(STACK);
    sigaltstack(&other, NULL);
    for (volatile int i = 0; i < 5; i++) {
        if (sigsetjmp(way_out, 1) == 0)
            overflow(NULL);
        allocate();
    }
    stack_t none = {.ss_flags = SS_DISABLE};
    sigaltstack(&none, NULL);
    free(other.ss_sp);
    return unused;
}

static void overflown(void)
{
    struct sigaction action = {.sa_handler = on_overflow, .sa_flags = SA_ONSTACK}, before;
    pthread_t thread;
    pthread_attr_t attributes;
    sigaction(SIGSEGV, &action, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    pthread_create(&thread, &attributes, overflow_here, NULL);
    pthread_join(thread, NULL);
    sigaction(SIGSEGV, &before, NULL);
    printf("overflown %d times\n", overflows);
}

#ifdef __x86_64__
/* Calls FUNCTION with RBP as rbp. */
void call_with_rbp(void (*function)(void), uintptr_t rbp);
void call_without_telling(void (*function)(void), uintptr_t rbp);
void call_and_lie(void (*function)(void), uintptr_t rbp);
void call_and_lie_of_rsp(void (*function)(void), uintptr_t rbp);

#define CALL_WITH_RBP                                                                                                  \
    "push %rbp\n push %rbx\n sub $8, %rsp\n mov %rsi, %rbp\n call *%rdi\n add $8, %rsp\n pop %rbx\n pop %rbp\n ret\n"

__asm__(".text\n"
        ".globl call_with_rbp\n.type call_with_rbp, @function\ncall_with_rbp:\n.cfi_startproc\n"
        "push %rbp\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset rbp, 0\npush %rbx\n.cfi_adjust_cfa_offset 8\n"
        "sub $8, %rsp\n.cfi_adjust_cfa_offset 8\n"
        "mov %rsi, %rbp\n call *%rdi\n add $8, %rsp\n pop %rbx\n pop %rbp\n ret\n.cfi_endproc\n"
        ".globl call_without_telling\n.type call_without_telling, @function\ncall_without_telling:\n" CALL_WITH_RBP
        ".globl call_and_lie\n.type call_and_lie, @function\ncall_and_lie:\n.cfi_startproc\n"
        ".cfi_def_cfa rbp, 16\n.cfi_offset rbp, -16\n" CALL_WITH_RBP ".cfi_endproc\n"
        ".globl call_and_lie_of_rsp\n.type call_and_lie_of_rsp, @function\ncall_and_lie_of_rsp:\n.cfi_startproc\n"
        ".cfi_def_cfa rsp, 104\n.cfi_offset rbp, -16\n" CALL_WITH_RBP ".cfi_endproc\n"
        ".section .note.GNU-stack,\"\",@progbits\n.text\n");

static const uintptr_t strange[] = {0,
                                    1,
                                    8,
                                    4096,
                                    0x4141414141414141,
                                    0x4141414141414148,
                                    UINTPTR_MAX - 7,
                                    (uintptr_t)0xffff8000 << 32,
                                    (uintptr_t)0x7ff00000 << 32,
                                    (uintptr_t)1 << 60,
                                    UINTPTR_MAX - 15};

static void call_through(void (*through)(void (*)(void), uintptr_t), bool is_honest)
{
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < sizeof strange / sizeof *strange; i++)
            through(allocate, strange[i]);
    /* Just above, and just below, the stack pointer. Whoever lies of that is led to what is on the stack. */
    for (ptrdiff_t distance = -4096; is_honest && distance < 4096; distance += 8)
        through(allocate, (uintptr_t)__builtin_frame_address(0) + (uintptr_t)distance);
}

/* The same code where no module lies, so that nothing at all is known of it. */
static void call_made_code(void)
{
    static const unsigned char code[] = {0x55, 0x53, 0x48, 0x83, 0xec, 0x08, 0x48, 0x89, 0xf5,
                                         0xff, 0xd7, 0x48, 0x83, 0xc4, 0x08, 0x5b, 0x5d, 0xc3};
    for (int i = 0; i < 20; i++) {
        void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memcpy(page, code, sizeof code);
        mprotect(page, 4096, PROT_READ | PROT_EXEC);
        call_through((void (*)(void (*)(void), uintptr_t))page, true);
        munmap(page, 4096);
    }
}

static void strange_code(void)
{
    call_through(call_with_rbp, true);
    call_through(call_without_telling, true);
    call_made_code();
    call_through(call_and_lie, false);
    call_through(call_and_lie_of_rsp, false);
    puts("strange code");
}
#else
static void strange_code(void)
{
    puts("strange code");
}
#endif

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    long_jumps();
    coroutines_in_threads();
    deep_recursion();
    overflown();
    strange_code();
    return 0;
}
