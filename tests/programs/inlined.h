/* inlined.h: functions that have no frames of their own. */

static inline __attribute__((always_inline)) void *inner(size_t size)
{
    void *block = malloc(size); /* line: inner */
    __asm__ volatile("" ::: "memory");
    return block;
}

static inline __attribute__((always_inline)) void *outer(size_t size)
{
    return inner(size); /* line: outer */
}
