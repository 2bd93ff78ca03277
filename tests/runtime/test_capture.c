/* test_capture.c: the stack walk against libunwind, frame by frame, and where walks are hard. */

#include "capture.h"
#include "lane.h"
#include "modules.h"
#ifdef OWN_WALK
#include "rule_cache.h"
#endif
#include "state.h"
#include "tap_cunit.h"

#define UNW_LOCAL_ONLY
#include <dlfcn.h>
#include <libunwind.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define LIMIT 200

static int walks, differences, repeated;
static uint32_t limit = LIMIT;

/* libunwind's walk from its caller on. */
static __attribute__((noinline)) uint32_t walk_by_libunwind(void **frames)
{
    unw_context_t context;
    unw_cursor_t cursor;
    uint32_t n = 0;
    unw_getcontext(&context);
    unw_init_local(&cursor, &context);
    unw_step(&cursor);
    while (n < LIMIT && unw_step(&cursor) > 0) {
        unw_word_t pc;
        unw_get_reg(&cursor, UNW_REG_IP, &pc);
        if (pc == 0)
            break;
        frames[n++] = (void *)pc;
    }
    return n;
}

static bool has_frames(const struct traceback *traceback, void *const *frames)
{
    for (uint32_t i = 0; i < traceback->nframe; i++)
        if (traceback->frames[i] != frames[i] ||
            (traceback->packed && packing_unpack(traceback->packed[i]) != (uintptr_t)frames[i]))
            return false;
    return true;
}

static void show(const struct traceback *ours, void **theirs, uint32_t n)
{
    printf("# ours %u frames%s, libunwind %u\n", ours->nframe, ours->cut ? ", cut" : "", n);
    for (uint32_t i = 0; i < n || i < ours->nframe; i++)
        printf("# %p %p\n", i < ours->nframe ? ours->frames[i] : NULL, i < n ? theirs[i] : NULL);
}

/* Whether what was recalled of the lane's last walk, if anything was, is the site of its frames. Else the walk is kept.
 */
static bool is_right_site(struct tm_lane *lane, uint32_t recalled, const struct traceback *traceback)
{
    uint32_t number = site_intern(0, 0, traceback);
    if (recalled == 0)
        capture_keep(lane, limit, number);
    repeated += recalled != 0;
    return recalled == 0 || recalled == number;
}

/* Compares what we recall from here, and our walk, with libunwind's, up to the limit. */
static __attribute__((noinline)) void compare(void)
{
    void *theirs[LIMIT];
    struct traceback traceback;
    struct tm_lane *lane = lane_claim();
    uint32_t recalled = capture_recall(lane, CAPTURE_CALLER(), limit);
    CU_ASSERT_FATAL(capture_walk(lane, CAPTURE_CALLER(), limit, &traceback));
    uint32_t n = walk_by_libunwind(theirs);
    uint32_t expected = n < limit ? n : limit;
    bool same = traceback.nframe == expected && traceback.cut == (n > limit) && has_frames(&traceback, theirs) &&
                is_right_site(lane, recalled, &traceback);
    if (!same && differences++ == 0)
        show(&traceback, theirs, n);
    walks++;
    lane_release(lane);
    CU_ASSERT(same);
}

/* The walk's frames stay until the lane's next one, which is this thread's. */
static __attribute__((noinline)) struct traceback walk_here(uint32_t most)
{
    struct traceback traceback;
    struct tm_lane *lane = lane_claim();
    CU_ASSERT_FATAL(capture_walk(lane, CAPTURE_CALLER(), most, &traceback));
    lane_release(lane);
    return traceback;
}

/* Where most walks are new, recalling pauses. With another limit it begins anew. */
static void recall_again(void)
{
    walk_here(1);
}

/* Frames of many shapes: with and without a frame pointer, large, realigned, of unknown size. */
#define SHAPE(name, body)                                                                                              \
    static void name(int depth);                                                                                       \
    static __attribute__((noinline)) void name(int depth)                                                              \
    {                                                                                                                  \
        body;                                                                                                          \
        if (depth == 0)                                                                                                \
            compare();                                                                                                 \
        else                                                                                                           \
            next_shape(depth);                                                                                         \
        __asm__ volatile("" ::: "memory");                                                                             \
    }

static void next_shape(int depth);
static volatile int sink;

SHAPE(plain_frame, sink = depth)
SHAPE(large_frame, volatile char room[5000]; room[depth] = 1; sink = room[depth])
SHAPE(huge_frame, volatile char room[300000]; room[depth] = 1; sink = room[depth])
SHAPE(variable_frame, volatile char room[16 + depth * 24]; room[depth] = 1; sink = room[depth])
SHAPE(aligned_frame, volatile char room[256] __attribute__((aligned(64))); room[depth] = 1; sink = room[depth])
SHAPE(both_frame, volatile char room[100 + depth]; volatile char more[64] __attribute__((aligned(64))); room[depth] = 1;
      more[0] = 2; sink = room[depth] + more[0])

static unsigned shape_state;

static __attribute__((noinline)) void next_shape(int depth)
{
    static void (*const shapes[])(int) = {plain_frame,    large_frame,   huge_frame,
                                          variable_frame, aligned_frame, both_frame};
    shape_state = shape_state * 1103515245u + 12345u;
    shapes[(shape_state >> 16) % 6](depth - 1);
    __asm__ volatile("" ::: "memory");
}

static void agrees_on_frames_of_all_shapes(void)
{
    for (int i = 0; i < 2000; i++)
        next_shape(1 + i % 12);
}

/* Cut walks: what is reused moves with the limit. */
static void agrees_at_every_limit(void)
{
    static const uint32_t limits[] = {1, 2, 3, 7, 12, 25};
    for (int l = 0; l < 6; l++) {
        limit = limits[l];
        for (int i = 0; i < 1000; i++)
            next_shape(1 + (shape_state >> 20) % 30);
    }
    limit = LIMIT;
}

/* The same frames at the same stack addresses, called from different places, and slowly growing stacks. */
static __attribute__((noinline)) void call_at(int where)
{
    if (where == 0)
        compare();
    else if (where == 1)
        compare();
    else
        compare();
    __asm__ volatile("" ::: "memory");
}

static __attribute__((noinline)) void climb(int depth)
{
    compare();
    if (depth > 0)
        climb(depth - 1);
    compare();
    __asm__ volatile("" ::: "memory");
}

static void agrees_when_only_some_frames_change(void)
{
    for (int i = 0; i < 300; i++) {
        call_at(i % 3);
        call_at((i + 1) % 3);
    }
    limit = 25;
    for (int i = 0; i < 20; i++)
        climb(60);
    limit = LIMIT;
    climb(100);
}

static __attribute__((noinline)) void compare_often(int times)
{
    for (int i = 0; i < times; i++)
        compare();
    __asm__ volatile("" ::: "memory");
}

/* The frames stay the same, and the limit changes. */
static void agrees_when_frames_repeat(void)
{
    static const uint32_t limits[] = {LIMIT, 3, 1, 2, 25, 1};
    int before = repeated;
    for (int i = 0; i < 60; i++) {
        limit = limits[i / 2 % 6];
        compare_often(1 + i % 3);
    }
    limit = LIMIT;
#ifdef OWN_WALK
    CU_ASSERT(repeated > before);
#else
    CU_ASSERT(repeated == before);
#endif
}

/* The same frames again and again, some with an rbp of their own; realigned ones are walked each time. */
static void recalls_frames_of_many_shapes(void)
{
    recall_again();
    int before = repeated;
    for (unsigned shape = 0; shape < 100; shape++)
        for (int turn = 0; turn < 4; turn++) {
            shape_state = shape;
            next_shape(1 + (int)shape % 4);
        }
#ifdef OWN_WALK
    CU_ASSERT(repeated - before > 100);
#else
    CU_ASSERT(repeated == before);
#endif
}

/* Whose caller is found by rbp, with COUNT words in between. */
static __attribute__((noinline)) void words_in_between(size_t count)
{
    volatile uintptr_t room[count];
    compare_often(1);
    __asm__ volatile("" ::"r"(room) : "memory");
}

/* Two that differ in nothing but where their code is. */
#define CALLER(name)                                                                                                   \
    static __attribute__((noipa)) void name(size_t count)                                                              \
    {                                                                                                                  \
        volatile uintptr_t room[count];                                                                                \
        words_in_between(64 - count);                                                                                  \
        __asm__ volatile("" ::"r"(room) : "memory");                                                                   \
    }
CALLER(one_caller)
CALLER(another_caller)

/* The innermost frames are where they were, so are all further out, and what was their caller's return address is still
   there, but it is no more than what was left on the stack: rbp leads to another one. */
static void is_not_led_by_what_was_left_on_the_stack(void)
{
    recall_again();
    for (size_t count = 2; count < 20; count += 2)
        for (size_t other = 2; other < 20; other += 2)
            for (volatile int turn = 0; turn < 2; turn++) /* volatile: both are called from one place */
                (turn == 0 ? one_caller : another_caller)(turn == 0 ? count : other);
}

#ifdef OWN_WALK
/* Where a stack ends in 0, the walk asks for its rule like any other, while another thread may be filling a cell. */
static void zero_has_no_rule(void)
{
    struct {
        struct rule_cache cache;
        struct rule rules[4];
    } filling = {.cache.mask = 3};
    for (int i = 0; i < 4; i++)
        filling.rules[i].packed = RULE_BY_RSP; /* their keys follow */
    CU_ASSERT_EQUAL(rule_cache_peek(&filling.cache, 0), UNWIND_NONE);
}
#endif

static int compare_items(const void *a, const void *b)
{
    compare();
    return *(const int *)a - *(const int *)b;
}

static void agrees_through_libc(void)
{
    int items[64];
    for (int i = 0; i < 64; i++)
        items[i] = i * 37 % 64;
    qsort(items, 64, sizeof *items, compare_items);
}

static void on_signal(int number)
{
    (void)number;
    compare();
}

static void agrees_in_signal_handlers(void)
{
    static char stack[256 << 10];
    stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    sigaltstack(&other, NULL);
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    other.ss_flags = SS_DISABLE;
    sigaltstack(&other, NULL);
}

static void *thread_main(void *argument)
{
    (void)argument;
    for (int i = 0; i < 200; i++)
        next_shape(1 + i % 5);
    return NULL;
}

static jmp_buf above;

static __attribute__((noinline)) void jump_out(int depth)
{
    volatile char room[64];
    room[depth] = 1;
    compare();
    if (depth > 0)
        jump_out(depth - 1);
    else if (room[depth])
        longjmp(above, 1);
    sink = room[depth];
}

static void agrees_after_longjmp(void)
{
    for (volatile int i = 0; i < 50; i++) {
        if (setjmp(above) == 0)
            jump_out(i % 10);
        compare();
    }
}

/* A module goes and another one, of other frames, comes to where it was: nothing learned of the first may count. */
static void agrees_where_modules_take_turns(void)
{
    void *last = NULL;
    int turns_at_one_place = 0;
    recall_again();
    for (int i = 0; i < 20; i++) {
        const char *path = i % 2 ? TEST_DIRECTORY "/libturn_large.so" : TEST_DIRECTORY "/libturn_small.so";
        void *handle = dlopen(path, RTLD_NOW);
        CU_ASSERT_PTR_NOT_NULL_FATAL(handle);
        void (*call)(void (*)(void)) = (void (*)(void (*)(void)))dlsym(handle, "turn_call");
        turns_at_one_place += (void *)call == last;
        last = (void *)call;
        for (int j = 0; j < 3; j++)
            call(compare);
        modules_before_unload(NULL);
        dlclose(handle);
        modules_after_unload();
        unw_flush_cache(unw_local_addr_space, 0, 0);
    }
    CU_ASSERT(turns_at_one_place > 10);
}

static void agrees_in_threads(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, thread_main, NULL);
    pthread_join(thread, NULL);
}

static ucontext_t main_context, other_context;

static void coroutine(void)
{
    for (int i = 0; i < 3; i++) {
        struct traceback traceback = walk_here(LIMIT);
        CU_ASSERT(traceback.nframe >= 1 && traceback.nframe < 20);
        swapcontext(&other_context, &main_context);
    }
}

/* The same stack is unmapped and mapped anew between uses. */
static void survives_switched_stacks(void)
{
    const size_t size = 64 << 10;
    for (int i = 0; i < 3; i++) {
        void *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        getcontext(&other_context);
        other_context.uc_stack.ss_sp = stack;
        other_context.uc_stack.ss_size = size;
        other_context.uc_link = &main_context;
        makecontext(&other_context, coroutine, 0);
        swapcontext(&main_context, &other_context);
        swapcontext(&main_context, &other_context);
        munmap(stack, size);
    }
}

static void tells_a_cut_walk_from_a_whole_one(void)
{
    struct traceback whole = walk_here(LIMIT);
    CU_ASSERT_FALSE(whole.cut);
    struct traceback exact = walk_here(whole.nframe);
    CU_ASSERT_FALSE(exact.cut);
    CU_ASSERT_EQUAL(exact.nframe, whole.nframe);
    struct traceback cut = walk_here(whole.nframe - 1);
    CU_ASSERT_TRUE(cut.cut);
    CU_ASSERT_EQUAL(cut.nframe, whole.nframe - 1);
    CU_ASSERT_EQUAL(walk_here(1).nframe, 1);
}

/* libunwind does not tell the outermost frame from one that it cannot leave. */
#ifdef OWN_WALK
static __attribute__((noinline)) void walk_for(uint32_t *nframe, bool *cut)
{
    struct traceback traceback = walk_here(LIMIT);
    *nframe = traceback.nframe;
    *cut = traceback.cut;
}

static __attribute__((noinline)) bool is_packed_further_in(void)
{
    struct traceback traceback = walk_here(LIMIT);
    __asm__ volatile("" ::: "memory");
    return traceback.packed != NULL;
}

/* All regions are other code's while one walk is made: its own frames cannot be packed, those further out are. */
static void goes_on_packing_after_what_it_cannot_pack(void)
{
    CU_ASSERT_PTR_NOT_NULL(walk_here(LIMIT).packed);
    const struct tm_regions regions = packing_regions;
    for (uint64_t i = 0; i < TM_REGIONS; i++)
        packing_regions.starts[i] = (UINT64_C(0x123) << 36) | i << TM_REGION_SHIFT | 1;
    CU_ASSERT_FALSE(is_packed_further_in());
    packing_regions = regions;
    CU_ASSERT_PTR_NOT_NULL(walk_here(LIMIT).packed);
    CU_ASSERT_TRUE(is_packed_further_in());
}

/* push rbp; call rax; pop rbp; ret: code that no module and no unwind data knows. */
static void ends_at_code_without_unwind_data(void)
{
    static const unsigned char code[] = {0x55, 0xff, 0xd0, 0x5d, 0xc3};
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, code, sizeof code);
    static uint32_t nframe;
    static bool cut;
    nframe = 0;
    uint32_t *where = &nframe;
    bool *is_cut = &cut;
    __asm__ volatile("call *%[page]"
                     :
                     : [page] "r"(page), "a"(walk_for), "D"(where), "S"(is_cut)
                     : "rcx", "rdx", "r8", "r9", "r10", "r11", "memory", "cc");
    CU_ASSERT_EQUAL(nframe, 2);
    CU_ASSERT_TRUE(cut);
    munmap(page, 4096);
}

static sigjmp_buf after_fault;
static struct traceback at_fault;

static void on_fault(int number)
{
    (void)number;
    at_fault = walk_here(LIMIT);
    siglongjmp(after_fault, 1);
}

/* Who called is not known by the program counter: the traceback is not a whole one. */
static void ends_at_a_call_to_nowhere(void)
{
    static void (*volatile nowhere)(void);
    struct sigaction action = {.sa_handler = on_fault}, before;
    for (int turn = 0; turn < 2; turn++) {
        at_fault.cut = false;
        sigaction(SIGSEGV, &action, &before);
        if (sigsetjmp(after_fault, 1) == 0)
            nowhere();
        sigaction(SIGSEGV, &before, NULL);
        CU_ASSERT(at_fault.nframe >= 2);
        CU_ASSERT_TRUE(at_fault.cut);
    }
}

#endif

int main(void)
{
    static const struct tap_test tests[] = {
        {"agrees when frames repeat", agrees_when_frames_repeat},
        {"recalls frames of many shapes", recalls_frames_of_many_shapes},
        {"agrees on frames of all shapes", agrees_on_frames_of_all_shapes},
        {"is not led by what was left on the stack", is_not_led_by_what_was_left_on_the_stack},
        {"agrees at every limit", agrees_at_every_limit},
        {"agrees when only some frames change", agrees_when_only_some_frames_change},
        {"agrees through libc", agrees_through_libc},
        {"agrees in signal handlers", agrees_in_signal_handlers},
        {"agrees after longjmp", agrees_after_longjmp},
        {"agrees where modules take turns", agrees_where_modules_take_turns},
        {"agrees in threads", agrees_in_threads},
        {"survives switched stacks", survives_switched_stacks},
#ifdef OWN_WALK
        {"goes on packing after what it cannot pack", goes_on_packing_after_what_it_cannot_pack},
#endif
        {"tells a cut walk from a whole one", tells_a_cut_walk_from_a_whole_one},
#ifdef OWN_WALK
        {"zero has no rule", zero_has_no_rule},
        {"ends at code without unwind data", ends_at_code_without_unwind_data},
        {"ends at a call to nowhere", ends_at_a_call_to_nowhere},
#endif
        {NULL, NULL},
    };
    if (!capture_init()) {
        printf("Bail out! no stack walk\n");
        return 99;
    }
    int status = tap_run("capture", tests);
    printf("# %d walks compared, %d differences\n", walks, differences);
    return status;
}
