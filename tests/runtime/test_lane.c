/* test_lane.c: what lane.h promises of current and peak. */

#include "lane.h"
#include "tap_cunit.h"

#include <pthread.h>

#define THREADS 8
#define MANY 100 /* more than there are lanes */

static size_t current, peak;

static void count(int64_t bytes)
{
    struct tm_lane *lane = lane_claim();
    lane_count(lane, bytes, bytes > 0 ? 1 : -1);
    lane_release(lane);
}

static void one_thread_is_exact(void)
{
    size_t expected = 0, highest = 0;
    unsigned seed = 1;
    for (int i = 0; i < 200000; i++) {
        seed = seed * 1103515245 + 12345;
        size_t size = (seed >> 8) % 9000;
        if (seed & 1 || expected < size) {
            count((int64_t)size);
            expected += size;
        } else {
            count(-(int64_t)size);
            expected -= size;
        }
        if (expected > highest)
            highest = expected;
        if (i % 1000 == 0) {
            lane_read(&current, &peak);
            CU_ASSERT_EQUAL(current, expected);
            CU_ASSERT_EQUAL(peak, highest);
        }
    }
    count(-(int64_t)expected);
    lane_read(&current, &peak);
    CU_ASSERT_EQUAL(current, 0);
    CU_ASSERT_EQUAL(peak, highest);
}

static void reset_starts_from_the_current(void)
{
    count(1000);
    lane_reset_peak();
    lane_read(&current, &peak);
    CU_ASSERT_EQUAL(peak, 1000);
    count(-400);
    count(300);
    lane_read(&current, &peak);
    CU_ASSERT_EQUAL(current, 900);
    CU_ASSERT_EQUAL(peak, 1000);
    count(-900);
    lane_reset_peak();
}

static void *add_and_keep(void *argument)
{
    (void)argument;
    for (int i = 0; i < 100000; i++) {
        count(100);
        count(-99);
    }
    return NULL;
}

static void threads_lose_nothing(void)
{
    pthread_t threads[THREADS];
    lane_reset_peak();
    for (int t = 0; t < THREADS; t++)
        pthread_create(&threads[t], NULL, add_and_keep, NULL);
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    lane_read(&current, &peak);
    CU_ASSERT_EQUAL(current, THREADS * 100000);
    CU_ASSERT(peak >= THREADS * 100000);
    CU_ASSERT(peak <= THREADS * 100000 + THREADS * 100 + (THREADS - 1) * TM_LANE_STEP);
}

static void more_threads_than_lanes_lose_nothing(void)
{
    static pthread_t threads[MANY];
    size_t start;
    lane_read(&start, &peak);
    for (int t = 0; t < MANY; t++)
        pthread_create(&threads[t], NULL, add_and_keep, NULL);
    for (int t = 0; t < MANY; t++)
        pthread_join(threads[t], NULL);
    lane_read(&current, &peak);
    CU_ASSERT_EQUAL(current, start + MANY * 100000);
}

static void *raise_by_step(void *argument)
{
    count(*(int *)argument);
    return NULL;
}

static void the_peak_of_many_is_within_its_bound(void)
{
    pthread_t thread;
    int size = TM_LANE_STEP - 1;
    size_t start;
    lane_read(&start, &peak);
    lane_reset_peak();
    for (int t = 0; t < THREADS; t++) {
        pthread_create(&thread, NULL, raise_by_step, &size);
        pthread_join(thread, NULL);
    }
    size_t truth = start + THREADS * (size_t)size;
    count(-(int64_t)size * THREADS);
    lane_read(&current, &peak);
    CU_ASSERT_EQUAL(current, start);
    CU_ASSERT(peak <= truth);
    CU_ASSERT(peak + THREADS * TM_LANE_STEP >= truth);
}

int main(void)
{
    static const struct tap_test tests[] = {
        {"one thread is exact", one_thread_is_exact},
        {"reset starts from the current", reset_starts_from_the_current},
        {"threads lose nothing", threads_lose_nothing},
        {"more threads than lanes lose nothing", more_threads_than_lanes_lose_nothing},
        {"the peak of many is within its bound", the_peak_of_many_is_within_its_bound},
        {NULL, NULL},
    };
    return tap_run("lane", tests);
}
